"""The names that NumPy has removed and MXNet 1.9.1 still uses.

NumPy 1.20 dropped its financial functions, NumPy 1.24 its aliases of Python's types, and NumPy 2 many duplicates and
constants. MXNet reads some of them when it is imported, and others, such as `np.bool`, whenever it converts an array.
"""

from contextlib import contextmanager

import numpy as np

TYPES = {'bool': bool, 'int': int, 'float': float, 'complex': complex, 'object': object, 'str': str}
CONSTANTS = {
    'PZERO': 0.0,
    'NZERO': -0.0,
    **dict.fromkeys(('PINF', 'Inf', 'Infinity', 'infty'), np.inf),
    'NINF': -np.inf,
    **dict.fromkeys(('NAN', 'NaN'), np.nan),
}
RENAMED = {
    'float_': 'float64',
    'complex_': 'complex128',
    'unicode_': 'str_',
    'string_': 'bytes_',
    'product': 'prod',
    'cumproduct': 'cumprod',
    'alltrue': 'all',
    'sometrue': 'any',
    'row_stack': 'vstack',
    'trapz': 'trapezoid',
    'round_': 'round',
}
FUNCTIONS_WITHOUT_SUCCESSOR = ('mirr', 'npv', 'pmt', 'ppmt', 'pv', 'rate')


def restore_removed_names():
    """Restore each removed name of `numpy` that has a replacement."""
    # vars(), because hasattr() finds deprecated names and warns.
    old_names = {
        **TYPES,
        **CONSTANTS,
        **{old: vars(np).get(new) for old, new in RENAMED.items()},
        'in1d': _in1d,
        'msort': _msort,
    }
    for name, value in old_names.items():
        if name not in vars(np):
            setattr(np, name, value)


def _in1d(elements, test_elements, **options):
    return np.isin(np.ravel(elements), test_elements, **options)


def _msort(array):
    return np.sort(array, axis=0)


@contextmanager
def functions_without_successor():
    """Add stubs for these functions to `numpy` during the block, because MXNet looks them up while it is imported.

    Calling a stub raises NotImplementedError.
    """
    own = np.__getattr__
    np.__getattr__ = with_functions_without_successor(own)
    try:
        yield
    finally:
        np.__getattr__ = own


def with_functions_without_successor(own_getattr):
    """Return a module's `__getattr__` that returns these stubs, and otherwise calls `own_getattr`."""

    def find(name):
        if name in FUNCTIONS_WITHOUT_SUCCESSOR:
            return _removed_function(name)
        return own_getattr(name)

    return find


def _removed_function(name):
    def removed(*_, **__):
        raise NotImplementedError(f'NumPy {np.__version__} has no {name}')

    removed.__name__ = name
    return removed
