"""runner as a user starts it: finding the environment, and describing the machine."""

import os
import shlex
import shutil
import sys

from helpers.commands import PROJECT, call, succeed


def dry_run(*options, env=None):
    """Return the environment, the words up to train.py, and the options of the command that would be started."""
    lines = succeed('./runner', '--dry-run', *options, env=env or {}).splitlines()
    environment = dict(line[:-2].split('=', 1) for line in lines[:-1])
    words = shlex.split(lines[-1])
    start = words.index(str(PROJECT / 'train.py'))
    options = dict(zip(words[start + 1 :: 2], words[start + 2 :: 2]))
    return environment, words[:start], options


def test_threads_share_the_cores_and_the_user_wins():
    cores = len(os.sched_getaffinity(0))
    plain = {name: value for name, value in os.environ.items() if not name.startswith('OMP_')}
    shown = call(
        'env', '-i', *(f'{k}={v}' for k, v in plain.items()), './runner', '--dry-run', '--device', 'cpu'
    ).stdout
    assert f'OMP_NUM_THREADS={cores} ' in shown
    assert 'OMP_PROC_BIND=true ' in shown
    assert dry_run('--device', 'cpu', env={'OMP_NUM_THREADS': '7'})[0]['OMP_NUM_THREADS'] == '7'


def test_environment_is_found(tmp_path):
    """The active environment comes first, then .venv in the launcher's folder, then the current interpreter."""
    shutil.copy(PROJECT / 'runner', tmp_path)
    for package in ('common', 'launcher'):
        shutil.copytree(PROJECT / 'imagenet' / package, tmp_path / 'imagenet' / package)

    def found(**environment):
        command = [sys.executable, tmp_path / 'runner', '--dry-run', '--device', 'cpu']
        return call(*command, env={'VIRTUAL_ENV': '', **environment}).stdout.splitlines()[-1].split()[0]

    assert found() == sys.executable
    for folder in ('.venv', 'active'):
        (tmp_path / folder / 'bin').mkdir(parents=True)
        (tmp_path / folder / 'bin' / 'python').symlink_to(sys.executable)
    assert found() == str(tmp_path / '.venv' / 'bin' / 'python')
    assert found(VIRTUAL_ENV=str(tmp_path / 'active')) == str(tmp_path / 'active' / 'bin' / 'python')


def test_what_is_there():
    shown = succeed('./runner', '--check')
    for line in ('Python', 'mxnet', 'horovod', 'sends with', 'DALI', 'GPUs', 'cores'):
        assert line in shown
