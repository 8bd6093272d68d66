"""checkpoints and stop_signals.py: a run that is stopped in any way goes on as if it had not been."""

import json
import os
import random
import shutil
import signal
import sys
import tarfile
import time
from pathlib import Path

import pytest
from conftest import SMALL, assert_user_error, call, succeed
from patience import wait_until
from processes import read_until, worker

from imagenet.checkpoints.manifest import TrainingProgress, read_manifest, write_checkpoint
from imagenet.common.files import file_sha256
from imagenet.reporting.report_file import read_report
from imagenet.runtime import processor
from imagenet.runtime.compat import mx

pytestmark = pytest.mark.usefixtures('device')

OPTIONS = (
    '-e',
    '4',
    '--warmup-epochs',
    '1',
    '--seed',
    '7',
    '--mixup',
    '0.2',
    '--ema-decay',
    '0.9',
    '--disp-batches',
    '5',
)
# Files that hold numbers alone, and must be the same whatever happened to the run.
FINAL_FILES = [
    'model_best.params',
    'model_ema_best.params',
    *(f'model_resume_0004_000000_{part}.params' for part in ('parameters', 'optimizer', 'average')),
]
EXACT_METRICS = ('train.loss', 'train.top1', 'val.loss', 'val.top1', 'ema.top1', 'ema.loss')


def command(data, workspace, *options):
    return ('./runner', *SMALL, '--data-root', data, '--workspace', workspace, *OPTIONS, *options)


def stop_at(line, number, process):
    """Sends a run a signal when it prints a line, and returns its exit code and output."""
    beginning = read_until(process, line)
    process.send_signal(number)
    rest, _ = process.communicate()
    return process.returncode, beginning + rest


def outcome(workspace):
    metrics = read_report(workspace / 'report.json')['metrics']
    return {name: metrics[name] for name in EXACT_METRICS}, {
        name: file_sha256(workspace / name) for name in FINAL_FILES
    }


@pytest.mark.parametrize('backend', ['mxnet', 'dali-cpu'])
@pytest.mark.only_on_cpu('on a GPU, sums are not added in the same order each time')
def test_stopped_runs_end_as_if_they_had_not_been(start, small_data, tmp_path, backend):
    options = ('--data-backend', backend)
    succeed(*command(small_data, tmp_path / 'whole', *options))
    expected = outcome(tmp_path / 'whole')
    assert len(expected[0]['train.loss']) == 4

    process = start(*command(small_data, tmp_path / 'killed', *options))
    code, _ = stop_at('epoch 3 step 5/', signal.SIGKILL, process)
    assert code == -signal.SIGKILL
    again = succeed(*command(small_data, tmp_path / 'killed', *options))
    assert 'going on from' in again
    assert '2 of 4 epochs and 0 steps are done' in again
    assert outcome(tmp_path / 'killed') == expected

    # In the middle of an epoch, and then again in another one.
    for line in ('epoch 2 step 5/', 'epoch 3 step 10/'):
        process = start(*command(small_data, tmp_path / 'stopped', *options))
        code, output = stop_at(line, signal.SIGTERM, process)
        assert code == 0
        assert 'stopped by SIGTERM in epoch' in output
        assert output.rstrip().endswith('the same command goes on')
    succeed(*command(small_data, tmp_path / 'stopped', *options))
    assert outcome(tmp_path / 'stopped') == expected
    assert len((tmp_path / 'stopped' / 'dllogger_log.log').read_text().splitlines()) > 50


@pytest.fixture(scope='module')
def half_done(small_data, tmp_path_factory):
    """A workspace after two of four epochs."""
    workspace = tmp_path_factory.mktemp('half')
    output = succeed(*command(small_data, workspace, '--run-epochs', '2'))
    assert '2 of 4 epochs are done; the same command goes on' in output
    return workspace


@pytest.fixture
def workspace(half_done, tmp_path):
    return shutil.copytree(half_done, tmp_path / 'run')


def test_run_in_sessions(small_data, workspace):
    output = succeed(*command(small_data, workspace, '--run-epochs', '1'))
    assert '3 of 4 epochs are done' in output
    succeed(*command(small_data, workspace))
    report = read_report(workspace / 'report.json')
    assert len(report['metrics']['val.top1']) == 4
    assert 'this run is complete' in succeed(*command(small_data, workspace))


@pytest.mark.gpus(2)
def test_two_devices_and_other_layouts_go_on(small_data, workspace):
    """A checkpoint does not depend on the form of the network."""
    layouts = ('--conv-layout', 'NHWC', '--fuse-bn-relu', '0', '--gpus', '0,1', '--grad-accum-steps', '2')
    assert 'epoch 3/4' in succeed(*command(small_data, workspace, '--run-epochs', '1', *layouts))


@pytest.mark.gpus(2)
def test_two_processes_go_on(small_data, workspace):
    output = succeed(*command(small_data, workspace, '-n', '2', '-b', '8', '--run-epochs', '1'))
    assert 'going on from' in output
    assert 'epoch 3/4' in output
    assert '3 of 4 epochs are done' in output


def test_start_over_overwrites_nothing(small_data, workspace):
    before = {path.name: file_sha256(path) for path in workspace.iterdir() if path.is_file()}
    output = succeed(*command(small_data, workspace, '--no-resume', '--run-epochs', '1'))
    assert f'this run is in {workspace}/run2' in output
    assert {path.name: file_sha256(path) for path in workspace.iterdir() if path.is_file()} == before
    assert len(read_report(workspace / 'run2' / 'report.json')['metrics']['val.top1']) == 1


def test_validation_leaves_the_training_run_alone(small_data, workspace):
    before = {path.name: file_sha256(path) for path in workspace.iterdir() if path.is_file()}
    run = ('./runner', *SMALL, '--data-root', small_data, '--workspace', workspace, '--mode', 'val')
    best = max(read_report(workspace / 'report.json')['metrics']['val.top1'])
    assert 'the names of these begin with val_' in succeed(*run, '--load', workspace / 'model_best.params')
    assert {name: file_sha256(workspace / name) for name in before} == before
    assert read_report(workspace / 'val_report.json')['metrics']['val.top1'] == [best]
    ema = max(read_report(workspace / 'report.json')['metrics']['ema.top1'])
    succeed(*run, '--load', workspace / 'model_ema_best.params')
    assert read_report(workspace / 'val_report.json')['metrics']['val.top1'] == [ema]


def test_contradicting_options_are_listed(small_data, workspace):
    result = call(*command(small_data, workspace, '--num-layers', '34', '--optimizer', 'adam'))
    assert_user_error(result, '--num-layers 34 instead of 18', '--optimizer adam instead of sgd')
    output = succeed(*command(small_data, workspace, '-l', '0.016', '--run-epochs', '1'))
    assert 'options that differ from the checkpoint: --lr 0.001 instead of 0.016' in output


@pytest.mark.parametrize('part', ['parameters', 'optimizer', 'average'])
@pytest.mark.parametrize('damage', ['flip', 'cut', 'remove'])
def test_damaged_part(small_data, workspace, part, damage):
    path = workspace / f'model_resume_0002_000000_{part}.params'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == 'remove':
        path.unlink()
    else:
        path.write_bytes(content if damage == 'flip' else content[:-100])
    result = call(*command(small_data, workspace))
    assert_user_error(result, path.name, 'missing' if damage == 'remove' else 'SHA-256', '--no-resume')


@pytest.mark.parametrize(
    'content', ['', '{"format": 1', '[]', '{"format": 99, "parts": {}}', '{"format": 1, "parts": {}}']
)
def test_damaged_manifest(small_data, workspace, content):
    (workspace / 'model_resume.json').write_text(content)
    assert_user_error(call(*command(small_data, workspace)), 'model_resume.json', 'checkpoint')


def test_second_run_in_a_workspace(start, small_data, workspace):
    process = start(*command(small_data, workspace, '-e', '4000'))
    read_until(process, 'epoch 3 step')
    assert_user_error(call(*command(small_data, workspace)), workspace, 'another run is at work there')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.gpus(2)
def test_two_processes_agree_to_stop(start, small_data, tmp_path, number):
    """A signal to one of them stops both."""
    process = start(*command(small_data, tmp_path, '-n', '2', '-b', '8', '-e', '300'))
    read_until(process, 'epoch 2 step')
    worker(tmp_path, 1).send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert 'stopped by' in output
    assert (tmp_path / 'model_resume.json').exists()


ENDLESS_STEP = """
import threading
from imagenet.training.stop_signals import StopRequest
with StopRequest().listening():
    print('listening', flush=True)
    threading.Event().wait()
"""


def ends_the_process(pid, number):
    """Whether a signal has its default action in a process: neither ignored nor handled; see proc(5)."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    masks = (int(line.split()[1], 16) for line in lines if line.startswith(('SigIgn', 'SigCgt')))
    return not any(mask >> (number - 1) & 1 for mask in masks)


@pytest.mark.only_on_cpu('it is about signals')
def test_second_signal_stops_at_once(start):
    """The first is waited for until the end of a step, which here never comes."""
    process = start(sys.executable, '-c', ENDLESS_STEP)
    read_until(process, 'listening')
    process.send_signal(signal.SIGTERM)
    # What comes right after it is taken for the same request.
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: ends_the_process(process.pid, signal.SIGTERM), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


@pytest.mark.only_on_cpu('it is about files')
def test_kill_at_any_moment_of_a_save(tmp_path):
    """Whatever is on the disk then loads as the checkpoint before or the one after."""
    path = tmp_path / 'model_resume.json'
    parts = {name: {'weight': mx.nd.arange(200_000)} for name in ('parameters', 'optimizer', 'average')}

    def save(epoch):
        for arrays in parts.values():
            arrays['weight'][:] = epoch
        write_checkpoint(path, TrainingProgress(seed=1, options={}, epoch=epoch), parts)

    def save_in_child(epoch):
        child = os.fork()
        if child == 0:
            save(epoch)
            os._exit(0)
        return child

    save(0)
    started = time.perf_counter()
    os.waitpid(save_in_child(1), 0)
    longest = time.perf_counter() - started
    epoch, interrupted, moments = 1, 0, random.Random(0)
    for _ in range(200):
        child = save_in_child(epoch + 1)
        time.sleep(moments.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        progress, files = read_manifest(path)
        assert progress.epoch in (epoch, epoch + 1)
        assert len(files) == 3
        for file in files.values():
            assert (mx.nd.load(str(file))['weight'].asnumpy() == progress.epoch).all()
        interrupted += os.WIFSIGNALED(status)
        # About half of them shall be in time, however fast the machine is at the moment.
        longest *= 1.05 if os.WIFSIGNALED(status) else 0.95
        epoch = progress.epoch
    assert interrupted > 50
    assert epoch > 20


class TestEnds:
    def test_early_stop(self, small_data, tmp_path):
        output = succeed(*command(small_data, tmp_path, '-e', '40', '--early-stop-top1', '0.3', '-l', '0.5'))
        report = read_report(tmp_path / 'report.json')
        epochs = len(report['metrics']['val.top1'])
        assert epochs < 40
        assert report['metrics']['val.top1'][-1] >= 0.3
        assert report['time_to_accuracy']['epochs'] == epochs
        assert 0 < report['time_to_accuracy']['seconds'] <= report['total_duration']
        assert 'top-1 0.3 reached after' in output

    def test_loss_that_is_no_number(self, small_data, workspace):
        """Exit code 3, and the checkpoint before it is whole."""
        result = call(*command(small_data, workspace, '--lr', '1e30'))
        assert result.returncode == 3
        assert len(result.stderr.strip().splitlines()) == 1
        assert 'the loss is' in result.stderr
        assert 'in epoch 3, iteration' in result.stderr
        assert read_manifest(workspace / 'model_resume.json')[0].epoch == 2
        json.loads((workspace / 'report.json').read_text(), parse_constant=pytest.fail)

    def test_full_disk(self, small_data, workspace):
        """The old checkpoint survives, and the run ends with one line."""
        limit = (workspace / 'model_resume_0002_000000_parameters.params').stat().st_size // 2
        run = f'ulimit -f {limit // 1024}; exec "$@"'
        result = call('bash', '-c', run, 'bash', *command(small_data, workspace))
        assert_user_error(result, 'cannot write')
        assert read_manifest(workspace / 'model_resume.json')[0].epoch == 2


class TestOptions:
    def test_no_metrics(self, small_data, tmp_path):
        output = succeed(*command(small_data, tmp_path, '--no-metrics', '-e', '1', '--ema-decay', '0.5'))
        metrics = read_report(tmp_path / 'report.json')['metrics']
        assert 'train.loss' not in metrics
        assert 'train.top1' not in metrics
        assert metrics['train.total_ips'][0] > 0
        assert metrics['val.top1']
        assert 'epoch 1 step 5/15: ' in output
        assert 'loss' not in output.split('epoch 1/1')[0]

    def test_begin_epoch(self, small_data, trained, tmp_path):
        options = ('--load', trained / 'model_best.params', '--begin-epoch', '3', '--disp-batches', '1')
        output = succeed(*command(small_data, tmp_path, *options))
        assert output.count('epoch 4 step 1/15') == 1
        assert 'epoch 3 step' not in output

    def test_multistep(self, small_data, tmp_path):
        options = ('--lr-schedule', 'multistep', '--lr-steps', '1,2', '--lr-factor', '0.1', '-e', '3', '-l', '16')
        output = succeed(*command(small_data, tmp_path, *options, '--warmup-epochs', '0', '--disp-batches', '15'))
        rates = [line.rsplit(' ', 1)[1] for line in output.splitlines() if 'learning rate' in line]
        assert rates == ['1', '0.1', '0.01']

    def test_mixed_precision(self, device, small_data, tmp_path):
        """bfloat16 on a CPU that has it: it learns as float32 does, and is not float32."""
        options = ('--amp', '--mixup', '0', '-e', '2', '-l', '0.5')
        if device == 'cpu' and processor.instruction_set().bfloat16 is None:
            assert_user_error(call(*command(small_data, tmp_path / 'amp', *options)), '--amp: bfloat16 needs AVX-512')
            return
        succeed(*command(small_data, tmp_path / 'amp', *options))
        succeed(*command(small_data, tmp_path / 'plain', *options[1:]))
        amp, plain = (
            read_report(tmp_path / name / 'report.json')['metrics']['train.loss'] for name in ('amp', 'plain')
        )
        assert amp != plain
        assert amp[1] == pytest.approx(plain[1], rel=0.1)

    def test_tensorboard(self, small_data, tmp_path):
        succeed(*command(small_data, tmp_path, '-e', '1', '--tensorboard', tmp_path / 'board'))
        (events,) = (tmp_path / 'board').iterdir()
        content = events.read_bytes()
        for name in (b'train.loss', b'train.lr', b'epoch/val.accuracy', b'epoch/ema.accuracy'):
            assert name in content

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (('--run-epochs', '0'), '--run-epochs 0'),
            (('--begin-epoch', '4'), '--begin-epoch 4'),
            (('--lr-schedule', 'multistep'), '--lr-steps'),
            (('--lr-steps', '3,2'), '--lr-steps 3,2: epochs must rise'),
            (('--early-stop-top1', '97'), '--early-stop-top1 97'),
            (('--grad-accum-steps', '16'), '--grad-accum-steps 16: an epoch has only 15 batches'),
        ],
    )
    def test_contradictions(self, small_data, tmp_path, options, message):
        assert_user_error(call(*command(small_data, tmp_path, *options)), message)


@pytest.mark.only_on_cpu('a CPU left it')
def test_workspace_of_an_older_version(small_data, tmp_path):
    """Left in the middle of epoch 2 by the version before the package `imagenet/`, with what that one went on to.

    Only the first 4 channels of each layer are not 0, which keeps it small: such a network learns as any other does,
    and the rest of it stays 0.
    """
    data = Path(__file__).parent / 'data'
    with tarfile.open(data / 'stopped_run.tar.xz') as archive:
        archive.extractall(tmp_path)
    options = ('-b', '16', '-e', '3', '-l', '0.5', '--warmup-epochs', '1', '--seed', '7')
    options += ('--ema-decay', '0.9', '--mixup', '0.2', '--data-backend', 'dali-cpu')
    output = succeed('./runner', *SMALL, *options, '--data-root', small_data, '--workspace', tmp_path)
    assert '1 of 3 epochs and 6 steps are done' in output
    metrics = read_report(tmp_path / 'report.json')['metrics']
    for name, values in json.loads((data / 'stopped_run.json').read_text()).items():
        assert metrics[name] == pytest.approx(values, rel=1e-3), name
