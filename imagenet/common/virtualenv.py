"""Finds the Python interpreter that has MXNet, so that users need not activate an environment."""

import os
import sys
from pathlib import Path

from imagenet.common.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]


def find_python():
    """Return the interpreter of the active environment, else of the project's `.venv`, else the current interpreter.

    Raises:
        UserError: this user may not read an environment.
    """
    active = os.environ.get('VIRTUAL_ENV')
    folders = [Path(active)] if active else []
    for folder in [*folders, PROJECT / '.venv']:
        python = folder / 'bin' / 'python'
        try:
            # Not `exists()`, which raises this error in some versions of Python and hides it in others.
            python.stat()
            return str(python)
        except PermissionError:
            raise UserError(
                f'{python}: this user may not read this environment; make it readable, '
                'or run scripts/setup.sh in a copy of this package'
            ) from None
        except OSError:
            pass
    return sys.executable
