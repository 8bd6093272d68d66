"""Random seeds: one for a run, and those that follow from it."""

import numpy as np

from imagenet.runtime import distributed
from imagenet.runtime.compat import mx


def seed_everything(args):
    """Seeds MXNet and NumPy alike on all processes; a seed that was not given is drawn on rank 0."""
    if args.seed is None:
        drawn = np.random.SeedSequence().entropy % 2**31 if distributed.rank() == 0 else 0
        args.seed = int(distributed.allreduce_sum([drawn])[0])
    mx.random.seed(args.seed)
    np.random.seed(args.seed)


def derive_seed(seed, *path):
    """An int32 seed that follows from the run's seed and, say, an epoch and a rank."""
    return int(np.random.SeedSequence((seed, *path)).generate_state(1)[0] >> 1)
