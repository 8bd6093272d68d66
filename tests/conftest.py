"""Data sets and a way to call the programs, shared by the tests."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import patience
import pytest

from imagenet.common.errors import UserError
from imagenet.runtime import cuda
from imagenet.runtime.compat import mx

PROJECT = Path(__file__).resolve().parents[1]
# Small enough that a run takes seconds; 70 validation images fill no whole number of batches.
TRAINING_IMAGES_PER_CLASS = 24
VALIDATION_IMAGES_PER_CLASS = 7

# The smallest network on the small data set.
SMALL = ('--image-shape', '3,32,32', '--data-val-resize', '32', '--num-layers', '18', '-b', '16')

patience.set_limit()
# All GPUs are hidden, but from tests that take them; see `device`. pytest's workers inherit this.
ALL = 'all'
VISIBLE_GPUS = os.environ.setdefault('GPUS_FOR_TESTS', os.environ.get('CUDA_VISIBLE_DEVICES', ALL))
os.environ['CUDA_VISIBLE_DEVICES'] = ''


def count_gpus():
    """(number of GPUs, why there is none)."""
    try:
        count = len(cuda.read_driver().gpus)
    except UserError as error:
        return 0, f'no GPU: {error}'
    if not mx.runtime.Features().is_enabled('CUDA'):
        return 0, 'MXNet here is for CPUs: scripts/setup.sh --gpu'
    if VISIBLE_GPUS != ALL:
        count = len([number for number in VISIBLE_GPUS.split(',') if number])
    return count, 'no GPU: CUDA_VISIBLE_DEVICES hides them'


def pytest_collection_modifyitems(items):
    """Skips on GPUs what this machine or the test itself cannot do there."""
    found, reason = count_gpus()
    for item in items:
        if item.get_closest_marker('gpu') is None:
            continue
        on_cpu, needed = item.get_closest_marker('only_on_cpu'), item.get_closest_marker('gpus')
        if on_cpu is not None:
            item.add_marker(pytest.mark.skip(reason=on_cpu.args[0]))
        elif found < (needed.args[0] if needed is not None else 1):
            item.add_marker(pytest.mark.skip(reason=reason if found == 0 else f'needs {needed.args[0]} GPUs'))


@pytest.fixture(params=['cpu', pytest.param('gpu', marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Tests that use it run on the CPU, and once more on the GPUs where there are some."""
    if request.param == 'gpu':
        if VISIBLE_GPUS == ALL:
            monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
        else:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', VISIBLE_GPUS)
    return request.param


def call(*command, **settings):
    """Runs a program of the project as a user would and returns the completed process, its output as text."""
    command = [str(part) for part in command]
    environment = {**os.environ, **settings.pop('env', {})}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, **settings)


def succeed(*command, **settings):
    """`call`, for what must work: returns its stdout."""
    result = call(*command, **settings)
    assert result.returncode == 0, f'{command}\n{result.stdout}\n{result.stderr}'
    return result.stdout


@pytest.fixture
def start():
    """Starts programs as a user would; what is still running at the end of the test is killed.

    Both outputs come through one pipe, as text, unless the settings of `subprocess.Popen` say otherwise.
    """
    started = []

    def start(*command, **settings):
        settings = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True, **settings}
        environment = {**os.environ, **settings.pop('env', {})}
        command = [str(part) for part in command]
        started.append(subprocess.Popen(command, cwd=PROJECT, env=environment, start_new_session=True, **settings))
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


def assert_user_error(result, *expected):
    """The program ended as it must for a user's mistake: exit code 2, one line that holds the expected texts."""
    assert result.returncode == 2, f'exit code {result.returncode}\n{result.stdout}\n{result.stderr}'
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for text in expected:
        assert str(text) in lines[0]


@pytest.fixture(scope='session')
def digits_tree(tmp_path_factory):
    """The 5000 digits as an image tree."""
    out = tmp_path_factory.mktemp('digits') / 'raw'
    succeed(sys.executable, 'scripts/prepare_digits.py', out)
    return out


@pytest.fixture(scope='session')
def digits_data(digits_tree):
    """All of them as record files."""
    out = digits_tree.parent / 'data'
    succeed('scripts/prepare_imagenet.sh', digits_tree, out)
    return out


@pytest.fixture(scope='session')
def small_tree(digits_tree, tmp_path_factory):
    """A few of the digits as an image tree."""
    out = tmp_path_factory.mktemp('small') / 'raw'
    for split, count in (('train', TRAINING_IMAGES_PER_CLASS), ('val', VALIDATION_IMAGES_PER_CLASS)):
        for folder in sorted((digits_tree / split).iterdir()):
            (out / split / folder.name).mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count]:
                shutil.copy(image, out / split / folder.name)
    return out


@pytest.fixture(scope='session')
def small_data(small_tree):
    """The small tree as record files."""
    out = small_tree.parent / 'data'
    succeed('scripts/prepare_imagenet.sh', small_tree, out)
    return out


@pytest.fixture(scope='session')
def trained(small_data, tmp_path_factory):
    """A workspace after two epochs on the small data set with seed 7."""
    workspace = tmp_path_factory.mktemp('trained')
    train_small(small_data, workspace)
    return workspace


def train_small(data, workspace, *options):
    """Two epochs of the smallest network with seed 7; returns what was printed."""
    command = ['./runner', *SMALL, '--data-root', data, '-e', '2', '--warmup-epochs', '1', '-l', '0.5', '--seed', '7']
    return succeed(*command, '--workspace', workspace, *options)
