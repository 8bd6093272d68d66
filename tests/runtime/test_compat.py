"""compat.py: an array's memory in NumPy."""

import numpy as np

from imagenet.runtime.compat import as_numpy, mx, view_of


def test_view_waits_and_shares_memory():
    array = mx.nd.ones((2, 3, 4)) * 2
    view = view_of(array)
    assert view.flags.c_contiguous
    np.testing.assert_array_equal(view, np.full((2, 3, 4), 2, np.float32))
    array[1] = 5
    array.wait_to_read()
    assert view[1, 2, 3] == 5


def test_view_keeps_the_memory():
    view = view_of(mx.nd.arange(1000))
    mx.nd.zeros(1000).wait_to_read()
    assert view.sum() == sum(range(1000))


def test_view_of_part_of_an_array():
    assert view_of(mx.nd.arange(6).reshape((3, 2))[1:]).tolist() == [[2, 3], [4, 5]]


def test_array_of_either_kind():
    array, own = mx.nd.arange(3), np.arange(3)
    assert as_numpy(own) is own
    assert as_numpy(array).tolist() == [0, 1, 2]
