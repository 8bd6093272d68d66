"""Finds the Python interpreter that has MXNet, so that users need not activate an environment."""

import importlib.util
import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def find_python():
    """Return the interpreter of the active environment, else of the project's `.venv`, else the current interpreter."""
    candidates = [Path(folder) for folder in (os.environ.get('VIRTUAL_ENV'),) if folder] + [PROJECT / '.venv']
    return next(
        (str(folder / 'bin' / 'python') for folder in candidates if (folder / 'bin' / 'python').exists()),
        sys.executable,
    )


def use_environment(*packages):
    """Restart this program with the environment's interpreter if the current one lacks a package."""
    python = find_python()
    is_here = all(importlib.util.find_spec(package) for package in packages)
    # Links are not resolved: an environment's interpreter is a link to the one that created it.
    if not is_here and Path(python).absolute() != Path(sys.executable).absolute():
        os.execv(python, [python, *sys.argv])
