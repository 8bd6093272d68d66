"""Startup hook: Python runs this file at startup if this folder is on PYTHONPATH.

Horovod's build imports MXNet in its own interpreters, as does MXNet's im2rec.py. This hook restores NumPy's removed
names for it and loads CUDA's libraries there, as `compat` does everywhere else.
"""

import contextlib
import pathlib
import sys

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3]))

from imagenet.common.errors import UserError
from imagenet.runtime.cuda import load_libraries
from imagenet.runtime.numpy_names import restore_removed_names, with_functions_without_successor

restore_removed_names()
np.__getattr__ = with_functions_without_successor(np.__getattr__)
# Programs that need a missing library report it themselves.
with contextlib.suppress(UserError):
    load_libraries()
