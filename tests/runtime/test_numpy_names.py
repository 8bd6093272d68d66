"""numpy_names.py: what NumPy has removed and MXNet uses."""

import numpy as np
import pytest

from imagenet.runtime.compat import mx
from imagenet.runtime.numpy_names import FUNCTIONS_WITHOUT_SUCCESSOR, functions_without_successor

mx.nd  # noqa: B018 (loads MXNet, which restores the names)


@pytest.mark.parametrize('name', ['int', 'float', 'complex', 'object', 'str'])
def test_types(name):
    assert getattr(np, name) is {'int': int, 'float': float, 'complex': complex, 'object': object, 'str': str}[name]


def test_boolean():
    """NumPy 2 has one again, of its own."""
    assert np.bool in (bool, np.bool_)


def test_constants():
    assert [np.PINF, np.Inf, np.Infinity, np.infty, -np.NINF] == [np.inf] * 5
    assert np.isnan([np.NAN, np.NaN]).all()
    assert np.signbit([np.PZERO, np.NZERO]).tolist() == [False, True]


def test_renamed_types():
    found = [np.dtype(kind) for kind in (np.float_, np.complex_, np.unicode_, np.string_)]
    assert found == [np.dtype(kind) for kind in ('float64', 'complex128', 'U', 'S')]


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # before NumPy removes a name, it warns
def test_renamed_functions():
    numbers = np.array([[1.0, 2.0], [0.0, 4.26]])
    assert np.product(numbers) == 0
    assert np.cumproduct([1, 2, 3]).tolist() == [1, 2, 6]
    assert (np.alltrue(numbers), np.sometrue(numbers)) == (False, True)
    assert np.row_stack([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert np.trapz([0.0, 2.0, 4.0]) == 4
    assert np.round_(numbers, 1)[1, 1] == 4.3
    assert np.msort([[2, 1], [1, 3]]).tolist() == [[1, 1], [2, 3]]
    assert np.in1d(numbers, [2, 0]).tolist() == [False, True, True, False]


def test_functions_without_successor_are_there_only_for_mxnet():
    with functions_without_successor():
        for name in FUNCTIONS_WITHOUT_SUCCESSOR:
            if name not in vars(np):
                with pytest.raises(NotImplementedError, match=f'has no {name}'):
                    getattr(np, name)(1, 2)
        with pytest.raises(AttributeError, match='no attribute'):
            np.misspelt  # noqa: B018
    assert np.__getattr__.__module__ == 'numpy'


def test_mxnet_calls_them():
    assert mx.np.trapz(mx.np.array([0.0, 2.0, 4.0])) == 4
    assert mx.np.in1d(mx.np.array([1, 2]), mx.np.array([2])).tolist() == [False, True]
