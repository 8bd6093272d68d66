"""Loading DALI, which must happen after MXNet and before Horovod."""

import importlib
import importlib.util
import warnings

from imagenet.common.errors import UserError
from imagenet.runtime.compat import load_mxnet


def is_installed():
    return importlib.util.find_spec('nvidia') is not None and importlib.util.find_spec('nvidia.dali') is not None


def load_dali(backend, device):
    """Load DALI's libraries for a --data-backend and a --device.

    This must happen before Horovod is imported. Horovod makes the libjpeg and zlib inside libmxnet.so visible to every
    library loaded later, and DALI crashes with them.

    Raises:
        UserError: the backend cannot run here.
    """
    load_mxnet()
    try:
        with warnings.catch_warnings():
            # On Python 3.12, DALI warns that its support for this version is experimental.
            warnings.simplefilter('ignore')
            importlib.import_module('nvidia.dali.fn')
    except ImportError as error:
        missing = 'is not installed' if not is_installed() else f'does not start ({error})'
        raise UserError(f'--data-backend {backend}: DALI {missing}; use --data-backend mxnet') from None
    if backend == 'dali-gpu' and device == 'cpu':
        raise UserError('--data-backend dali-gpu: decodes on a GPU and needs --device gpu; use --data-backend dali-cpu')
