"""Sampling of examples: shards and the order of an epoch."""

import math

import numpy as np

from imagenet.common.errors import UserError
from imagenet.runtime.seeds import derive_seed


def shard_bounds(num_examples, num_shards, shard):
    """Return the begin and end of a shard.

    All shards have the same size, except that the last ones may be smaller or empty, as in MXNet's reader.
    """
    per_shard = math.ceil(num_examples / num_shards)
    return min(num_examples, per_shard * shard), min(num_examples, per_shard * (shard + 1))


def shard_size(num_examples, num_shards, shard):
    begin, end = shard_bounds(num_examples, num_shards, shard)
    return end - begin


def validation_bounds(num_examples, kv, is_separate):
    """Return the begin and end of the examples that a process validates: its shard, or all with `--dali-separ-val`."""
    return (0, num_examples) if is_separate else shard_bounds(num_examples, kv.size(), kv.rank())


def validation_steps(num_examples, process_batch, num_devices):
    """Return (batch size of the process, steps) of a validation; a small share gets a smaller batch."""
    batch_size = min(process_batch, max(1, math.ceil(num_examples / num_devices)) * num_devices)
    return batch_size, math.ceil(num_examples / batch_size)


def check_training_steps(steps, num_examples, batch_size):
    """Raise `UserError` if an epoch has no complete batch of all processes together; else return the steps."""
    if steps == 0:
        raise UserError(
            f'--batch-size {batch_size}: the {num_examples} training images do not fill one batch; use a smaller one'
        )
    return steps


def training_order(num_examples, num_steps, batch_size, num_shards, shard, seed, epoch):
    """Return the examples that a shard reads in an epoch of training.

    All shards together read `num_steps` complete batches of distinct examples, in a new random order for every epoch.
    Each epoch leaves out the next few examples of a fixed list, so that all examples are left out equally often.

    Returns:
        Example numbers, an int64 array of shape `(num_steps, batch_size)`.
    """
    num_read = num_steps * batch_size * num_shards
    left_out = num_examples - num_read
    fixed_order = np.random.RandomState(derive_seed(seed)).permutation(num_examples)
    read = np.roll(fixed_order, -(epoch * left_out) % num_examples)[left_out:]
    shuffled = np.random.RandomState(derive_seed(seed, epoch)).permutation(read)
    return shuffled.reshape(num_steps, num_shards, batch_size)[:, shard]


def repeated_order(num_examples, num_steps, batch_size, num_shards, shard, seed, epoch, repetitions):
    """Return the examples that a shard reads in an epoch of repeated augmentation, in the form of `training_order`.

    An epoch has as many batches as otherwise, of fewer examples: each is read several times, with its own augmentation,
    by neighbouring shards and places in the batch. Hoffer et al. (arXiv:1901.09335), Berman et al. (arXiv:1902.05509).
    """
    num_read = num_steps * batch_size * num_shards
    shuffled = np.random.RandomState(derive_seed(seed, epoch)).permutation(num_examples)
    repeated = np.repeat(shuffled[: math.ceil(num_read / repetitions)], repetitions)[:num_read]
    return repeated.reshape(num_steps, batch_size, num_shards)[:, :, shard]
