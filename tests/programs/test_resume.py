"""checkpoints and stop_signals.py: however a run is stopped, it resumes as if it had never stopped."""

import fcntl
import json
import os
import pty
import signal
import sys
import tarfile
import termios
from pathlib import Path

import pytest

from helpers.commands import PROJECT, SMALL, assert_user_error, call, resumable, succeed
from helpers.networks import make_initialized, random_arrays
from helpers.patience import wait_until
from helpers.processes import read_until, worker
from imagenet.checkpoints.manifest import read_manifest
from imagenet.checkpoints.parameters import write_arrays
from imagenet.common.files import file_sha256
from imagenet.reporting.report_file import read_report
from imagenet.runtime import cuda, processor

pytestmark = pytest.mark.usefixtures('device')


# Files that hold only numbers. They must be the same whether or not the run was stopped.
FINAL_FILES = [
    'model_best.params',
    'model_ema_best.params',
    *(f'model_resume_0004_000000_{part}.params' for part in ('parameters', 'optimizer', 'average')),
]


EXACT_METRICS = ('train.loss', 'train.top1', 'val.loss', 'val.top1', 'ema.top1', 'ema.loss')


def stop_at(line, number, process):
    """Send a signal to a run when it prints a line; return its exit code and output."""
    beginning = read_until(process, line)
    process.send_signal(number)
    rest, _ = process.communicate()
    return process.returncode, beginning + rest


def outcome(workspace):
    metrics = read_report(workspace / 'report.json')['metrics']
    return {name: metrics[name] for name in EXACT_METRICS}, {
        name: file_sha256(workspace / name) for name in FINAL_FILES
    }


@pytest.fixture(scope='session')
def seven_classes(tmp_path_factory):
    """The file of a network for seven classes."""
    net = make_initialized(num_layers=10, num_classes=7)
    path = tmp_path_factory.mktemp('seven') / 'net.params'
    network = {'arch': 'resnetv15', 'num_layers': 10, 'num_classes': 7, 'batchnorm_eps': 1e-5}
    images = {'image_shape': [3, 32, 32], 'data_val_resize': 32, 'rgb_mean': [1.0] * 3, 'rgb_std': [60.0] * 3}
    write_arrays(path, random_arrays(net), {**network, **images, 'interpolation': 'linear'})
    return path


FROM_SEVEN_CLASSES = ('mxnet', '--finetune', '--load', 'SEVEN')

# `resumable` adds --mixup.
AUGMENTED = ('--auto-augment', 'autoaugment', '--random-erasing', '0.5', '--cutmix', '1', '--mixup-off-epoch', '3')


@pytest.mark.parametrize(
    'options',
    [
        ('mxnet', '--drop-connect', '0.3', '--dropout', '0.2', '--optimizer', 'adamw', '--lr', '0.02'),
        ('dali-cpu', '--optimizer', 'rmsprop_tf', '--mean-square-start', '1', '--ema-warmup', 'none', '--lr', '0.02'),
        ('dali-cpu', *AUGMENTED),
        (*FROM_SEVEN_CLASSES, '--freeze', 'features', '--dropout', '0.2'),
        (*FROM_SEVEN_CLASSES, '--freeze', 'batchnorm', '--lr-mult-features', '0.1', '--grad-accum-steps', '5'),
    ],
)
@pytest.mark.only_on_cpu('the order of additions varies on GPUs')
def test_stopped_runs_end_as_if_they_had_not_been(start, small_data, seven_classes, tmp_path, options):
    options = ('--data-backend', *(seven_classes if option == 'SEVEN' else option for option in options))
    succeed(*resumable(small_data, tmp_path / 'whole', *options))
    expected = outcome(tmp_path / 'whole')
    assert len(expected[0]['train.loss']) == 4

    process = start(*resumable(small_data, tmp_path / 'killed', *options))
    code, _ = stop_at('epoch 3 step 5/', signal.SIGKILL, process)
    assert code == -signal.SIGKILL
    again = succeed(*resumable(small_data, tmp_path / 'killed', *options))
    assert 'resuming from' in again
    # The checkpoint after the second epoch may not have been complete.
    assert any(f'{epochs} of 4 epochs and 0 steps are done' in again for epochs in (1, 2))
    assert outcome(tmp_path / 'killed') == expected

    # Stopped in the middle of one epoch, and then of another one.
    for line in ('epoch 2 step 5/', 'epoch 3 step 10/'):
        process = start(*resumable(small_data, tmp_path / 'stopped', *options))
        code, output = stop_at(line, signal.SIGTERM, process)
        assert code == 0
        assert 'stopped by SIGTERM in epoch' in output
        assert output.rstrip().endswith('the same command resumes it')
    succeed(*resumable(small_data, tmp_path / 'stopped', *options))
    assert outcome(tmp_path / 'stopped') == expected
    assert len((tmp_path / 'stopped' / 'dllogger_log.log').read_text().splitlines()) > 50


@pytest.mark.only_on_cpu('the order of additions varies on GPUs')
@pytest.mark.parametrize('options', [('-n', '2', '-b', '8'), ('--kv-store', 'device', '--gpus', '0,1')])
def test_several_devices_stopped_within_epochs(start, small_data, tmp_path, options):
    """Each device has its own running statistics until the end of an epoch."""
    succeed(*resumable(small_data, tmp_path / 'whole', *options))
    for line in ('epoch 2 step 5/', 'epoch 3 step 10/'):
        process = start(*resumable(small_data, tmp_path / 'stopped', *options))
        code, output = stop_at(line, signal.SIGTERM, process)
        assert (code, 'in epoch' in output) == (0, True), output
    succeed(*resumable(small_data, tmp_path / 'stopped', *options))
    assert outcome(tmp_path / 'stopped') == outcome(tmp_path / 'whole')


@pytest.mark.gpus(2)
def test_averages_are_validated_as_they_are_saved(small_data, tmp_path):
    """Every rank validates the same averaged parameters, running statistics included."""
    succeed(*resumable(small_data, tmp_path, '-n', '2', '-b', '8', '-e', '1', '--run-epochs', '1'))
    expected = read_report(tmp_path / 'report.json')['metrics']
    options = ('--mode', 'val', '--load', tmp_path / 'model_ema_best.params', '--data-root', small_data)
    succeed('./runner', *SMALL, *options, '--workspace', tmp_path / 'val')
    found = read_report(tmp_path / 'val' / 'report.json')['metrics']
    assert found['val.loss'] == pytest.approx(expected['ema.loss'], rel=1e-5)


@pytest.mark.gpus(2)
def test_two_processes_go_on(small_data, workspace):
    output = succeed(*resumable(small_data, workspace, '-n', '2', '-b', '8', '--run-epochs', '1'))
    assert 'resuming from' in output
    assert 'epoch 3/4' in output
    assert '3 of 4 epochs are done' in output


def test_second_run_in_a_workspace(start, small_data, workspace):
    process = start(*resumable(small_data, workspace, '-e', '4000'))
    read_until(process, 'epoch 3 step')
    assert_user_error(call(*resumable(small_data, workspace)), workspace, 'in use by another run')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
@pytest.mark.gpus(2)
def test_two_processes_agree_to_stop(start, small_data, tmp_path, number):
    """A signal to one of them stops both."""
    process = start(*resumable(small_data, tmp_path, '-n', '2', '-b', '8', '-e', '300'))
    read_until(process, 'epoch 2 step')
    worker(tmp_path, 1).send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert 'stopped by' in output
    assert (tmp_path / 'model_resume.json').exists()


@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.gpus(2)
def test_hangup_is_ignored_under_nohup(start, small_data, tmp_path, processes):
    process = start('nohup', *resumable(small_data, tmp_path, '-n', processes, '-b', '8', '-e', '300'))
    read_until(process, 'epoch 1 step')
    process.send_signal(signal.SIGHUP)
    read_until(process, 'epoch 2 step')
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert 'stopped by SIGTERM' in output


@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.gpus(2)
def test_terminal_that_closes(start, small_data, tmp_path, processes):
    """The system sends SIGHUP to the programs of the terminal, which cannot print any more."""
    master, terminal = pty.openpty()
    command = resumable(small_data, tmp_path, '-n', processes, '-b', '8', '-e', '300')
    process = start(
        *command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    shown = b''
    while b'epoch 2/300' not in shown:
        shown += os.read(master, 4096)
    os.close(master)
    assert process.wait() == 0
    lines = (tmp_path / 'log.log').read_text().splitlines()
    assert any('stopped by SIGHUP' in line or 'stopped by a signal to another process' in line for line in lines)
    assert 'standard output cannot be written: Input/output error; this log continues' in lines
    assert 'resuming from' in succeed(*resumable(small_data, tmp_path, '--run-epochs', '1', '-e', '300'))


@pytest.mark.parametrize(('options', 'expected'), [((), 'cubic'), (('--interpolation', 'lanczos'), 'lanczos')])
def test_run_keeps_its_filter(small_data, workspace, options, expected):
    """An option that is left out comes from the checkpoint; one that is given is used, and noted."""
    path = workspace / 'model_resume.json'
    manifest = json.loads(path.read_text())
    assert manifest['options']['interpolation'] == 'triangular'
    manifest['options']['interpolation'] = 'cubic'
    path.write_text(json.dumps(manifest))
    output = succeed(*resumable(small_data, workspace, '--run-epochs', '1', *options))
    assert ('--interpolation lanczos instead of cubic' in output) == (expected == 'lanczos')
    assert read_manifest(path)[0].options['interpolation'] == expected


def test_leftovers_of_a_killed_run_are_removed(small_data, workspace):
    users = ('.model_notes', '.report.json.original', '.report.json.partial')
    leftovers = [f'.{name}.0a_9zzzz.partial' for name in ('report.json', 'model_best.params', 'model_resume.json')]
    for name in (*users, *leftovers):
        (workspace / name).touch()
    succeed(*resumable(small_data, workspace, '--run-epochs', '1'))
    hidden = sorted(path.name for path in workspace.iterdir() if path.name.startswith('.'))
    assert hidden == sorted(('.model.lock', *users))


ENDLESS_STEP = """
import threading
from imagenet.training.stop_signals import StopRequest
with StopRequest().listening():
    print('listening', flush=True)
    threading.Event().wait()
"""


def ends_the_process(pid, number):
    """Return whether a signal has its default action in a process, neither ignored nor handled; see proc(5)."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    masks = (int(line.split()[1], 16) for line in lines if line.startswith(('SigIgn', 'SigCgt')))
    return not any(mask >> (number - 1) & 1 for mask in masks)


@pytest.mark.only_on_cpu('tests only signals')
def test_second_signal_stops_at_once(start):
    """The first signal takes effect at the end of a step, which never comes here."""
    process = start(sys.executable, '-c', ENDLESS_STEP)
    read_until(process, 'listening')
    process.send_signal(signal.SIGTERM)
    # A signal right after the first counts as the same request.
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: ends_the_process(process.pid, signal.SIGTERM), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


class TestEnds:
    def test_full_disk(self, small_data, workspace):
        """The old checkpoint survives, and the run ends with a one-line error."""
        limit = (workspace / 'model_resume_0002_000000_parameters.params').stat().st_size // 2
        run = f'ulimit -f {limit // 1024}; exec "$@"'
        result = call('bash', '-c', run, 'bash', *resumable(small_data, workspace))
        assert_user_error(result, 'cannot write')
        assert read_manifest(workspace / 'model_resume.json')[0].epoch == 2


class TestOptions:
    def test_mixed_precision(self, device, small_data, tmp_path):
        """Mixed precision learns like float32, but with different numbers. On a CPU it needs bfloat16."""
        options = ('--amp', '--mixup', '0', '-e', '2', '-l', '0.5')
        if device == 'cpu' and processor.instruction_set().bfloat16 is None:
            assert_user_error(call(*resumable(small_data, tmp_path / 'amp', *options)), '--amp: bfloat16 needs AVX-512')
            return
        succeed(*resumable(small_data, tmp_path / 'amp', *options))
        succeed(*resumable(small_data, tmp_path / 'plain', *options[1:]))
        amp, plain = (
            read_report(tmp_path / name / 'report.json')['metrics']['train.loss'] for name in ('amp', 'plain')
        )
        assert amp != plain
        assert amp[1] == pytest.approx(plain[1], rel=0.1)


@pytest.mark.only_on_cpu('the saved run is from a CPU')
def test_workspace_of_an_older_version(small_data, tmp_path):
    """A run stopped in the middle of epoch 2 by the version before `imagenet/` resumes to that version's results.

    To keep the archive small, only the first 4 channels of each layer are nonzero. Such a network learns like any
    other, and its other channels stay 0.
    """
    data = PROJECT / 'tests' / 'data'
    with tarfile.open(data / 'stopped_run.tar.xz') as archive:
        archive.extractall(tmp_path)
    options = ('--num-layers', '18', '-b', '16', '-e', '3', '-l', '0.5', '--warmup-epochs', '1', '--seed', '7')
    options += ('--ema-decay', '0.9', '--mixup', '0.2', '--data-backend', 'dali-cpu')
    output = succeed('./runner', *SMALL, *options, '--data-root', small_data, '--workspace', tmp_path)
    assert '1 of 3 epochs and 6 steps are done' in output
    # It had no other filter.
    assert read_manifest(tmp_path / 'model_resume.json')[0].options['interpolation'] == 'linear'
    assert 'options that differ' not in output
    metrics = read_report(tmp_path / 'report.json')['metrics']
    # DALI 2 draws other random numbers for the rest of the images.
    accuracy = 1e-3 if cuda.version_of('nvidia-dali-cuda110') else 0.05
    for name, values in json.loads((data / 'stopped_run.json').read_text()).items():
        assert metrics[name] == pytest.approx(values, rel=accuracy), name
