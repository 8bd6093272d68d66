"""Loads DALI, which must come before Horovod."""

import importlib
import importlib.util
import warnings

from imagenet.common.errors import UserError


def is_installed():
    return importlib.util.find_spec('nvidia') is not None and importlib.util.find_spec('nvidia.dali') is not None


def load_dali(backend, device):
    """Loads DALI's libraries for a --data-backend and a --device.

    That must be before Horovod is imported, which makes the libjpeg and zlib inside of libmxnet.so visible to all
    libraries that are loaded later; DALI's crash with them.

    Raises:
        UserError: the chosen backend cannot run here.
    """
    try:
        with warnings.catch_warnings():
            # On Python 3.12 it says that it is experimental there.
            warnings.simplefilter('ignore')
            importlib.import_module('nvidia.dali.fn')
    except ImportError as error:
        missing = 'is not installed' if not is_installed() else f'does not start ({error})'
        raise UserError(f'--data-backend {backend}: DALI {missing}; use --data-backend mxnet') from None
    if backend == 'dali-gpu' and device == 'cpu':
        raise UserError('--data-backend dali-gpu: it decodes on a GPU; use --data-backend dali-cpu')
