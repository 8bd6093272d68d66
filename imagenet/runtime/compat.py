"""Imports MXNet 1.9.1 on today's NumPy and Python: `from imagenet.runtime.compat import mx`.

MXNet is the last release of a finished project. It uses names that NumPy 1.24 removed and prints warnings of its own
age. This module is the only one that imports it, and puts right beforehand what MXNet cannot put right itself.
Importing this module alone is cheap: MXNet is loaded when `mx` is first asked for.
"""

import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import warnings

import numpy as np

from imagenet.common.errors import UserError, one_line_errors
from imagenet.runtime import cuda, processor
from imagenet.runtime.threads import OWN_CORES

CRASHES = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)
REMOVED_NUMPY_ALIASES = {'bool': bool, 'int': int, 'float': float, 'complex': complex, 'object': object, 'str': str}


def restore_numpy_aliases():
    """Gives `numpy` back the builtin aliases that NumPy 1.20 deprecated and 1.24 removed."""
    for name, builtin in REMOVED_NUMPY_ALIASES.items():
        # vars(), since hasattr() on NumPy 1.20 to 1.23 finds the deprecated alias and warns.
        if name not in vars(np):
            setattr(np, name, builtin)


def _import_mxnet():
    if int(np.__version__.split('.')[0]) >= 2:
        raise UserError(f'NumPy {np.__version__}: MXNet 1.9.1 needs NumPy 1.x; run scripts/setup.sh, or install 1.26.4')
    restore_numpy_aliases()
    # OpenMP binds its threads to the cores it finds when MXNet is loaded; processes that all found all of them would
    # bind to the same ones.
    if os.environ.get('OMP_PROC_BIND') == 'true':
        os.sched_setaffinity(0, OWN_CORES)
    processor.allow_matrix_tiles()
    cuda.load_libraries()
    with warnings.catch_warnings():
        # Invalid escape sequences and deprecated aliases in MXNet's own sources, which nobody can act on.
        warnings.simplefilter('ignore')
        try:
            mxnet = importlib.import_module('mxnet')
        except ModuleNotFoundError as error:
            raise UserError(
                f'{sys.executable} has no {error.name}; run scripts/setup.sh, or activate an environment with MXNet'
            ) from error
    show_where_it_crashes()
    return mxnet


def show_where_it_crashes():
    """Have a crash in native code print where each thread was, and end the process by its signal.

    MXNet's own handlers print "Segmentation fault" and call `exit`, with exit code 255, while other threads still run.
    """
    # In this order: `enable` would call the handlers that are there after its own, and does nothing if it is enabled.
    faulthandler.disable()
    for number in CRASHES:
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable(file=sys.__stderr__.fileno())


def start_mixed_precision(dtype):
    """Has MXNet compute in 'float16' or 'bfloat16' where that is safe, in all networks that are made afterwards."""
    importlib.import_module('mxnet.contrib.amp').init(target_dtype=dtype)


def load_quantization():
    """MXNet's module that makes int8 graphs; `mx` does not import it."""
    return importlib.import_module('mxnet.contrib.quantization')


def load_onnx_exporter():
    """MXNet's module that writes ONNX."""
    return importlib.import_module('mxnet.onnx')


def return_free_memory():
    """Gives the system what this process has freed. MXNet frees arrays of all sizes, and the gaps between those that
    are still in use would add up over the epochs."""
    ctypes.CDLL(None).malloc_trim(0)


def __getattr__(name):
    if name == 'mx':
        # Programs import this at their very start, before any handler of errors; without MXNet there is nothing to do.
        with one_line_errors():
            # Kept, so that the next `from imagenet.runtime.compat import mx` finds it without coming here.
            globals()['mx'] = _import_mxnet()
        return globals()['mx']
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
