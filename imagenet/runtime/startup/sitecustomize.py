"""Startup hook: Python runs this file at startup if this folder is on PYTHONPATH.

Horovod's build imports MXNet in its own interpreters, as does MXNet's im2rec.py. This hook restores NumPy's removed
names and loads CUDA's libraries there, as `compat` does everywhere else.
"""

import contextlib
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3]))

from imagenet.common.errors import UserError
from imagenet.runtime.compat import restore_numpy_aliases
from imagenet.runtime.cuda import load_libraries

restore_numpy_aliases()
# Programs that need a missing library report it themselves.
with contextlib.suppress(UserError):
    load_libraries()
