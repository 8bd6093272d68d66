"""Data sets, trained networks and started programs, shared by the tests."""

import gc
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from helpers import patience
from helpers.commands import PROJECT, resumable, succeed, training
from helpers.datasets import write_classes
from imagenet.common.errors import UserError
from imagenet.reporting.report_file import Report
from imagenet.runtime import cuda
from imagenet.runtime.compat import mx, return_free_memory

# Few enough that a run takes only seconds. 70 validation images do not fill the last batch.
TRAINING_IMAGES_PER_CLASS = 24
VALIDATION_IMAGES_PER_CLASS = 7

# Tests run in parallel, one per core. If every program used all cores, they would spend most of their time waiting
# for each other. pytest's workers and all programs inherit these variables.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('OMP_PROC_BIND', 'false')
patience.set_limit()
# Shells start background jobs with SIGINT ignored, `nohup` does the same with SIGHUP, and programs inherit that.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
GIBIBYTE = 1 << 30
# All GPUs are hidden except from tests that use them; see `device`.
ALL = 'all'
VISIBLE_GPUS = os.environ.setdefault('GPUS_FOR_TESTS', os.environ.get('CUDA_VISIBLE_DEVICES', ALL))
os.environ['CUDA_VISIBLE_DEVICES'] = ''


def count_gpus():
    """Return the number of GPUs, and the reason if there are none."""
    try:
        count = len(cuda.read_driver().gpus)
    except UserError as error:
        return 0, f'no GPU: {error}'
    if not mx.runtime.Features().is_enabled('CUDA'):
        return 0, 'the installed MXNet supports only CPUs: scripts/setup.sh --gpu'
    if VISIBLE_GPUS != ALL:
        count = len([number for number in VISIBLE_GPUS.split(',') if number])
    return count, 'no GPU: CUDA_VISIBLE_DEVICES hides them'


def pytest_collection_modifyitems(items):
    """Mark the tests that start programs. Skip GPU tests that this machine or the test itself does not support."""
    found, reason = count_gpus()
    for item in items:
        if 'programs' in item.path.relative_to(PROJECT).parts:
            item.add_marker('program')
        if item.get_closest_marker('gpu') is None:
            continue
        on_cpu, needed = item.get_closest_marker('only_on_cpu'), item.get_closest_marker('gpus')
        if on_cpu is not None:
            item.add_marker(pytest.mark.skip(reason=on_cpu.args[0]))
        elif found < (needed.args[0] if needed is not None else 1):
            item.add_marker(pytest.mark.skip(reason=reason if found == 0 else f'needs {needed.args[0]} GPUs'))


@pytest.fixture(params=['cpu', pytest.param('gpu', marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Run a test on the CPU, and again on the GPUs if there are any."""
    if request.param == 'gpu':
        if VISIBLE_GPUS == ALL:
            monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
        else:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', VISIBLE_GPUS)
    return request.param


@pytest.fixture(autouse=True)
def _free_memory():
    """Free the networks of earlier tests, which hold each other in reference cycles, before they fill the memory."""
    yield
    if psutil.Process().memory_info().rss > 1.5 * GIBIBYTE:
        gc.collect()
        return_free_memory()


@pytest.fixture
def start():
    """Start programs as a user would. Programs that still run at the end of the test are killed.

    Both outputs come through one pipe, as text, unless the settings of `subprocess.Popen` change that.
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


@pytest.fixture(scope='session')
def digits_tree(tmp_path_factory):
    """The 5000 digits as an image tree."""
    out = tmp_path_factory.mktemp('digits') / 'raw'
    succeed(sys.executable, 'scripts/prepare_digits.py', out)
    return out


@pytest.fixture(scope='session')
def digits_data(digits_tree):
    """The 5000 digits as record files."""
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
    succeed(*training(small_data, workspace))
    return workspace


@pytest.fixture
def split_tree(tmp_path):
    """Two classes in two splits."""
    for split in ('train', 'val'):
        write_classes(tmp_path / 'raw' / split, {'cat': 4, 'dog': 4})
    return tmp_path / 'raw'


@pytest.fixture
def saved(tmp_path):
    """The path of a report of three epochs."""
    report = Report('resnetv15-18', 2, ['train.py', '--seed', '1'])
    for epoch in range(3):
        report.add('train', {'loss': 2.0 - epoch, 'top1': 0.3 * epoch, 'total_ips': 100.0})
        report.add('val', {'top1': 0.25 * epoch})
    report.total_duration = 12.5
    path = tmp_path / 'report.json'
    report.save(path)
    return path


@pytest.fixture(scope='session')
def half_done(small_data, tmp_path_factory):
    """A workspace after two of four epochs."""
    workspace = tmp_path_factory.mktemp('half')
    output = succeed(*resumable(small_data, workspace, '--run-epochs', '2'))
    assert '2 of 4 epochs are done; the same command resumes it' in output
    return workspace


@pytest.fixture
def workspace(half_done, tmp_path):
    """A copy of it."""
    return shutil.copytree(half_done, tmp_path / 'run')
