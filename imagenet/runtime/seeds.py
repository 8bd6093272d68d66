"""Random seeds: one for a run, and the seeds derived from it."""

import numpy as np

from imagenet.runtime import distributed
from imagenet.runtime.compat import mx


def draw_seed():
    """Return a seed, the same on all ranks."""
    drawn = np.random.SeedSequence().entropy % 2**31 if distributed.rank() == 0 else 0
    return int(distributed.allreduce_sum([drawn])[0])


def seed_everything(seed):
    """Seed MXNet and NumPy."""
    mx.random.seed(seed)
    np.random.seed(seed)


def derive_seed(seed, *path):
    """Return an int32 seed derived from the run's seed and, for example, an epoch and a rank."""
    return int(np.random.SeedSequence((seed, *path)).generate_state(1)[0] >> 1)
