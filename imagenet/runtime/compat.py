"""MXNet 1.9.1 on current NumPy and Python: `from imagenet.runtime.compat import mx`.

MXNet is no longer maintained. It uses names that NumPy has removed, and prints warnings about its own code. This
module is the only one that imports it, after fixing what it can. `mx` loads MXNet when one of its names is first used,
so that a program that only prints its help does not wait for it.
"""

import ctypes
import faulthandler
import importlib
import importlib.util
import os
import signal
import sys
import types
import warnings
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from imagenet.common.errors import UserError
from imagenet.runtime import cuda, processor
from imagenet.runtime.late_operators import late_operators
from imagenet.runtime.numpy_names import functions_without_successor, restore_removed_names
from imagenet.runtime.threads import OWN_CORES

CRASHES = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)


@lru_cache(maxsize=None)
def load_mxnet():
    """Load MXNet once, and return its module.

    Call this before importing a library that imports MXNet itself, so that the library gets the fixed one.

    Raises:
        UserError: MXNet is not installed.
    """
    restore_removed_names()
    # OpenMP binds its threads to the cores that are available when MXNet is loaded. If every process found all cores,
    # their threads would share the same ones.
    if os.environ.get('OMP_PROC_BIND') == 'true':
        os.sched_setaffinity(0, OWN_CORES)
    processor.allow_matrix_tiles()
    cuda.load_libraries()
    with warnings.catch_warnings(), _hidden('scipy'), late_operators(), functions_without_successor():
        # They are about invalid escape sequences and deprecated aliases in MXNet's sources. A user cannot fix them.
        warnings.simplefilter('ignore')
        try:
            mxnet = importlib.import_module('mxnet')
        except ModuleNotFoundError as error:
            raise UserError(
                f'{sys.executable} has no {error.name}; run scripts/setup.sh, or activate an environment with MXNet'
            ) from error
    show_where_it_crashes()
    return mxnet


@contextmanager
def _hidden(package):
    """Make a package look missing in the block, unless it is already loaded.

    MXNet imports SciPy for sparse arrays and for calibration. This takes a fifth of the time of loading MXNet, and then
    MXNet warns about SciPy's deprecated names with each new array.
    """
    is_loaded = package in sys.modules
    if not is_loaded:
        sys.modules[package] = None
    try:
        yield
    finally:
        if not is_loaded:
            del sys.modules[package]


def show_where_it_crashes():
    """Make a crash in native code print the Python stack of each thread, and end the process with the crash's signal.

    MXNet's own handlers print "Segmentation fault" and call `exit` with code 255 while other threads still run.
    """
    # The order matters: `enable` calls earlier handlers after its own, and does nothing if it is already enabled.
    faulthandler.disable()
    for number in CRASHES:
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable(file=sys.__stderr__.fileno())


def start_mixed_precision(dtype):
    """Make MXNet compute in 'float16' or 'bfloat16' wherever that is safe, in every network built afterwards."""
    importlib.import_module('mxnet.contrib.amp').init(target_dtype=dtype)


def load_quantization():
    """Return MXNet's module for making int8 graphs, which `mx` does not import."""
    quantization = importlib.import_module('mxnet.contrib.quantization')
    if importlib.util.find_spec('scipy') is not None:
        quantization.stats = importlib.import_module('scipy.stats')
    return quantization


def load_onnx_exporter():
    """Return MXNet's module for writing ONNX."""
    return importlib.import_module('mxnet.onnx')


def memory_of(array):
    """Return the address of an array's first value, for a library that writes it. It is valid as long as the array."""
    address = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    return address


def view_of(array):
    """Return an array on the CPU as a NumPy array that shares its memory, for reading until the array changes.

    Not for what an operator of oneDNN returns: MXNet would lay that out again in place, while the network may use it.
    """
    array.wait_to_read()
    return np.asarray(_Shared(array))


def as_numpy(array):
    """Return an array, MXNet's or NumPy's, as NumPy's."""
    return array if isinstance(array, np.ndarray) else array.asnumpy()


class _Shared:
    """The memory of an array in the form that NumPy takes. DLPack would make it read-only, which OpenVINO refuses."""

    def __init__(self, array):
        self._array = array
        self.__array_interface__ = {
            'version': 3,
            'shape': array.shape,
            'typestr': np.dtype(array.dtype).str,
            'data': (memory_of(array).value, False),
        }


def return_free_memory():
    """Return freed memory to the system. Otherwise gaps between the arrays still in use add up over the epochs."""
    ctypes.CDLL(None).malloc_trim(0)


class _LazyMXNet(types.ModuleType):
    """A stand-in for the module `mxnet` that loads it when one of its names is first used."""

    def __getattr__(self, name):
        value = getattr(load_mxnet(), name)
        # Stored, so that the next lookup does not call `__getattr__`.
        setattr(self, name, value)
        return value


mx = _LazyMXNet('mxnet')
