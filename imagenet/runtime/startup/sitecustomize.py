"""Python runs this file at its start when this folder is on PYTHONPATH.

Horovod's build and `horovodrun` import MXNet by themselves, in interpreters of their own; with this folder on
their path they find NumPy's removed names and CUDA's libraries in place, as `compat` does for everyone else.
"""

import contextlib
import pathlib
import sys

from imagenet.common.errors import UserError
from imagenet.runtime.compat import restore_numpy_aliases
from imagenet.runtime.cuda import load_libraries

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3]))

restore_numpy_aliases()
# What is missing is told by those who need it.
with contextlib.suppress(UserError):
    load_libraries()
