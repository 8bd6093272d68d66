"""Python runs this file at its start when this folder is on PYTHONPATH.

Horovod's build and `horovodrun` import MXNet by themselves, in interpreters of their own; with this folder on
their path they find NumPy's removed names in place, as `compat` does for everyone else.
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))

from compat import restore_numpy_aliases

restore_numpy_aliases()
