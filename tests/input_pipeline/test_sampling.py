"""sampling.py: which process reads which example, and when."""

from collections import Counter

import numpy as np
import pytest

from imagenet.input_pipeline.sampling import repeated_order, shard_bounds, training_order, validation_steps


@pytest.mark.parametrize(('num_examples', 'num_shards'), [(10, 1), (10, 3), (7, 4), (2, 3)])
def test_shards_are_the_whole(num_examples, num_shards):
    shards = [range(*shard_bounds(num_examples, num_shards, shard)) for shard in range(num_shards)]
    assert [example for shard in shards for example in shard] == list(range(num_examples))


def epoch_order(epoch, num_examples=103, num_shards=3, seed=5):
    """Return the examples of all shards in an epoch, in batches of 8: `(shards, steps, 8)`."""
    num_steps = num_examples // (8 * num_shards)
    return np.stack(
        [training_order(num_examples, num_steps, 8, num_shards, shard, seed, epoch) for shard in range(num_shards)]
    )


def test_an_epoch_has_no_example_twice():
    examples = epoch_order(0).ravel()
    assert len(examples) == 96
    assert len(set(examples)) == 96
    assert set(examples) <= set(range(103))


def test_all_are_left_out_equally_often():
    read = Counter(example for epoch in range(103) for example in epoch_order(epoch).ravel())
    assert set(read.values()) == {96}


def test_order_follows_from_seed_and_epoch():
    np.testing.assert_array_equal(epoch_order(2), epoch_order(2))
    assert not np.array_equal(epoch_order(2), epoch_order(3))
    assert not np.array_equal(epoch_order(2), epoch_order(2, seed=6))


def test_repeated_augmentation():
    """Neighbours have the same examples, shard by shard; all batches of an epoch together have a third of them."""

    def epoch_of(epoch):
        shards = [repeated_order(103, 4, 8, 3, shard, 5, epoch, repetitions=3) for shard in range(3)]
        return np.stack(shards, axis=2)

    examples = epoch_of(0)
    assert examples.shape == (4, 8, 3)
    assert set(Counter(examples.ravel()).values()) == {3}
    assert all(len(set(copies)) == 1 for copies in examples.reshape(-1, 3))
    np.testing.assert_array_equal(epoch_of(0), examples)
    assert set(epoch_of(1).ravel()) != set(examples.ravel())
    # The last example of an epoch may have fewer copies.
    alone = repeated_order(103, 5, 8, 1, 0, 5, 0, repetitions=3)
    assert sorted(Counter(alone.ravel()).values()) == [1, *[3] * 13]


def test_a_small_share_makes_small_batches():
    assert validation_steps(100, 16, 2) == (16, 7)
    assert validation_steps(5, 16, 2) == (6, 1)
    assert validation_steps(0, 16, 2)[1] == 0
