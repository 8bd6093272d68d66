"""Who reads which example when: seeds, shards and the order of an epoch."""

import math

import numpy as np

from imagenet.common.errors import UserError
from imagenet.runtime.seeds import derive_seed


def shard_bounds(num_examples, num_shards, shard):
    """Begin and end of a shard: equal runs of examples, the last ones shorter or empty, as MXNet's reader has them."""
    per_shard = math.ceil(num_examples / num_shards)
    return min(num_examples, per_shard * shard), min(num_examples, per_shard * (shard + 1))


def shard_size(num_examples, num_shards, shard):
    begin, end = shard_bounds(num_examples, num_shards, shard)
    return end - begin


def validation_bounds(num_examples, kv, is_separate):
    """Begin and end of what a process validates: its shard, or everything with `--dali-separ-val`."""
    return (0, num_examples) if is_separate else shard_bounds(num_examples, kv.size(), kv.rank())


def validation_steps(num_examples, process_batch, num_devices):
    """(batch size of the process, steps) of a validation; a small share makes no batch larger than itself."""
    batch_size = min(process_batch, max(1, math.ceil(num_examples / num_devices)) * num_devices)
    return batch_size, math.ceil(num_examples / batch_size)


def check_training_steps(steps, num_examples, batch_size):
    """Raises `UserError` if an epoch has not a single whole batch of all processes together."""
    if steps == 0:
        raise UserError(
            f'--batch-size {batch_size}: the {num_examples} training images do not fill one batch; use a smaller one'
        )
    return steps


def training_order(num_examples, num_steps, batch_size, num_shards, shard, seed, epoch):
    """The examples that a shard reads in an epoch of training.

    All shards together read `num_steps` whole batches of different examples, in an order that is drawn again for every
    epoch. The examples left over are the next ones of a fixed list in every epoch, so that all are left out equally
    often.

    Returns:
        An int64 array of shape `(num_steps, batch_size)`: example numbers.
    """
    num_read = num_steps * batch_size * num_shards
    left_out = num_examples - num_read
    fixed_order = np.random.RandomState(derive_seed(seed)).permutation(num_examples)
    read = np.roll(fixed_order, -(epoch * left_out) % num_examples)[left_out:]
    shuffled = np.random.RandomState(derive_seed(seed, epoch)).permutation(read)
    return shuffled.reshape(num_steps, num_shards, batch_size)[:, shard]
