"""Dockerfile and Dockerfile.cpu: lint them and execute the shell code of each RUN, without a container engine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import PROJECT
from imagenet.runtime import cuda

DOCKERFILES = ('Dockerfile', 'Dockerfile.cpu')
# Replacements for programs that change the machine. They change nothing, but fail if the real ones would.
STAND_INS = {
    'python': 'exec {python} "$@"',
    'apt-get': 'case "$1" in update) ;; *) exec /usr/bin/apt-get --simulate "$@" ;; esac',
    'pip': 'case "$*" in *https://*) ;; *) shift; exec {python} -m pip install --quiet --dry-run "$@" ;; esac',
    'useradd': 'exec /usr/sbin/useradd --prefix {root} "$@"',
    'chown': 'grep -q "^${{1%%:*}}:" {root}/etc/passwd && test -e "$2"',
    'rm': 'case "$2" in /var/lib/apt/lists/*) ;; *) exit 1 ;; esac',
}


def instructions(path):
    """Return (instruction, arguments) for each instruction of a Dockerfile, in order."""
    text = re.sub(r'\\\n', '', re.sub(r'^\s*#.*\n', '', path.read_text(), flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize('name', DOCKERFILES)
def test_lint(name):
    hadolint = Path(sys.executable).with_name('hadolint')
    result = subprocess.run([hadolint, '--no-color', name], cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.fixture
def stand_ins(tmp_path):
    """A PATH for the shell code of an image, with programs that cannot change this machine."""
    if not shutil.which('apt-get') or os.geteuid() != 0:
        pytest.skip('the shell code of an image needs root and Debian')
    root, folder = tmp_path / 'root', tmp_path / 'bin'
    (root / 'etc').mkdir(parents=True)
    (root / 'home').mkdir()
    for name in ('passwd', 'shadow', 'group', 'gshadow'):
        (root / 'etc' / name).touch()
    folder.mkdir()
    for name, code in STAND_INS.items():
        (folder / name).write_text('#!/bin/sh\n' + code.format(python=sys.executable, root=root) + '\n')
        (folder / name).chmod(0o755)
    return f'{folder}:{os.environ["PATH"]}'


@pytest.mark.parametrize('name', DOCKERFILES)
def test_every_run_line(name, stand_ins, tmp_path):
    """Each RUN is executed in a folder that contains only the files copied into its stage so far."""
    if cuda.has_wheel():
        pytest.skip('this environment is for GPUs')
    stage, variables, executed = None, {}, 0
    for instruction, arguments in instructions(PROJECT / name):
        if instruction == 'ARG':
            variables.update([arguments.split('=', 1)])
        elif instruction == 'FROM':
            stage = tmp_path / f'stage{executed}'
            stage.mkdir()
        elif instruction == 'COPY' and '--from' not in arguments:
            *sources, target = [word for word in arguments.split() if not word.startswith('--')]
            for source in sources:
                copy(source, stage / target)
        elif instruction == 'RUN':
            # The environment already exists. With only the copied files, setup.sh must find it complete.
            if not (stage / '.venv').exists():
                (stage / '.venv').symlink_to(PROJECT / '.venv')
            environment = {**os.environ, **variables, 'PATH': stand_ins, 'PYTHON': '', 'PYTHONPATH': ''}
            result = subprocess.run(['sh', '-c', arguments], cwd=stage, env=environment, capture_output=True, text=True)
            assert result.returncode == 0, f'{arguments}\n{result.stdout}\n{result.stderr}'
            executed += 1
    assert executed == {'Dockerfile': 3, 'Dockerfile.cpu': 4}[name]


def copy(source, target):
    if source == '.':
        return
    found = sorted(PROJECT.glob(source))
    assert found, source
    for path in found:
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


@pytest.mark.parametrize('name', DOCKERFILES)
def test_what_an_image_starts(name):
    """Its user is not root, and its command is in the repository."""
    found = dict(instructions(PROJECT / name))
    assert found['USER'] == 'trainer'
    program = re.match(r'\["([^"]+)"', found['CMD']).group(1)
    assert os.access(PROJECT / program, os.X_OK)


def test_images_hold_no_more_than_the_repository():
    ignored = (PROJECT / '.dockerignore').read_text().splitlines()
    assert {'.git', '.venv', '.pythons', 'demo', '**/__pycache__', '**/*.params'} <= set(ignored)
