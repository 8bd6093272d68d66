"""The interpreter that has MXNet and the rest: programs find it, and nobody has to activate anything."""

import importlib.util
import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def find_python():
    """The interpreter of the environment: the active one, else `.venv` beside this file, else this one."""
    candidates = [Path(folder) for folder in (os.environ.get('VIRTUAL_ENV'),) if folder] + [PROJECT / '.venv']
    return next(
        (str(folder / 'bin' / 'python') for folder in candidates if (folder / 'bin' / 'python').exists()),
        sys.executable,
    )


def use_environment(*packages):
    """Starts this program again with the interpreter of the environment, where this one lacks a package."""
    python = find_python()
    is_here = all(importlib.util.find_spec(package) for package in packages)
    # Not resolved: an environment's interpreter is a link to the one that it was made with.
    if not is_here and Path(python).absolute() != Path(sys.executable).absolute():
        os.execv(python, [python, *sys.argv])
