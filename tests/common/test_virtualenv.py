"""virtualenv.py: environments that cannot be used."""

import os
import tempfile
from pathlib import Path

import pytest

from imagenet.common import virtualenv
from imagenet.common.errors import UserError

NOBODY = 65534


@pytest.fixture
def unreadable():
    """A folder of an environment that this user, who is not root, may not read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        environment = Path(folder) / '.venv'
        (environment / 'bin').mkdir(parents=True)
        (environment / 'bin' / 'python').touch()
        environment.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        yield environment
        if is_root:
            os.seteuid(0)
        environment.chmod(0o755)


def test_environment_of_another_user(monkeypatch, unreadable):
    monkeypatch.delenv('VIRTUAL_ENV', raising=False)
    monkeypatch.setattr(virtualenv, 'PROJECT', unreadable.parent)
    with pytest.raises(UserError, match='/.venv/bin/python: this user may not read this environment'):
        virtualenv.find_python()
