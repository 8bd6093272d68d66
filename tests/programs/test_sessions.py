"""Successive runs in one workspace: when they resume from a checkpoint, and when they refuse to."""

import json

import pytest

from helpers.commands import SMALL, assert_user_error, call_here, resumable, succeed_here, training
from imagenet.checkpoints.manifest import read_manifest
from imagenet.common.files import file_sha256
from imagenet.reporting.report_file import read_report

pytestmark = pytest.mark.usefixtures('device')


def test_run_in_sessions(small_data, workspace):
    output = succeed_here(*resumable(small_data, workspace, '--run-epochs', '1'))
    assert '3 of 4 epochs are done' in output
    succeed_here(*resumable(small_data, workspace))
    report = read_report(workspace / 'report.json')
    assert len(report['metrics']['val.top1']) == 4
    assert 'this run is complete' in succeed_here(*resumable(small_data, workspace))


@pytest.mark.gpus(2)
def test_two_devices_and_other_layouts_go_on(small_data, workspace):
    """A checkpoint does not depend on the layout, fusion or number of devices."""
    layouts = ('--conv-layout', 'NHWC', '--fuse-bn-relu', '0', '--gpus', '0,1', '--grad-accum-steps', '2')
    assert 'epoch 3/4' in succeed_here(*resumable(small_data, workspace, '--run-epochs', '1', *layouts))


def test_start_over_overwrites_nothing(small_data, workspace):
    before = {path.name: file_sha256(path) for path in workspace.iterdir() if path.is_file()}
    output = succeed_here(*resumable(small_data, workspace, '--no-resume', '--run-epochs', '1'))
    assert f'this run is in {workspace}/run2' in output
    assert {path.name: file_sha256(path) for path in workspace.iterdir() if path.is_file()} == before
    assert len(read_report(workspace / 'run2' / 'report.json')['metrics']['val.top1']) == 1


def test_validation_leaves_the_training_run_alone(small_data, workspace):
    before = {path.name: file_sha256(path) for path in workspace.iterdir() if path.is_file()}
    run = ('./runner', *SMALL, '--data-root', small_data, '--workspace', workspace, '--mode', 'val')
    best = max(read_report(workspace / 'report.json')['metrics']['val.top1'])
    assert 'the names of these begin with val_' in succeed_here(*run, '--load', workspace / 'model_best.params')
    assert {name: file_sha256(workspace / name) for name in before} == before
    assert read_report(workspace / 'val_report.json')['metrics']['val.top1'] == [best]
    ema = max(read_report(workspace / 'report.json')['metrics']['ema.top1'])
    succeed_here(*run, '--load', workspace / 'model_ema_best.params')
    assert read_report(workspace / 'val_report.json')['metrics']['val.top1'] == [ema]


def test_contradicting_options_are_listed(small_data, workspace):
    result = call_here(*resumable(small_data, workspace, '--num-layers', '34', '--optimizer', 'adam'))
    assert_user_error(result, '--num-layers 34 instead of 10', '--optimizer adam instead of sgd')
    output = succeed_here(*resumable(small_data, workspace, '-l', '0.016', '--run-epochs', '1'))
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
    result = call_here(*resumable(small_data, workspace))
    assert_user_error(result, path.name, 'missing' if damage == 'remove' else 'SHA-256', '--no-resume')


@pytest.mark.parametrize(
    'content', ['', '{"format": 1', '[]', '{"format": 99, "parts": {}}', '{"format": 1, "parts": {}}']
)
def test_damaged_manifest(small_data, workspace, content):
    (workspace / 'model_resume.json').write_text(content)
    assert_user_error(call_here(*resumable(small_data, workspace)), 'model_resume.json', 'checkpoint')


class TestEnds:
    def test_early_stop(self, small_data, tmp_path):
        output = succeed_here(*training(small_data, tmp_path, '-e', '40', '--early-stop-top1', '0.2'))
        report = read_report(tmp_path / 'report.json')
        epochs = len(report['metrics']['val.top1'])
        assert epochs < 40
        assert report['metrics']['val.top1'][-1] >= 0.2
        assert report['time_to_accuracy']['epochs'] == epochs
        assert 0 < report['time_to_accuracy']['seconds'] <= report['total_duration']
        assert 'top-1 0.2 reached after' in output

    def test_loss_that_is_no_number(self, small_data, workspace):
        """The exit code is 3, and the previous checkpoint is intact."""
        result = call_here(*resumable(small_data, workspace, '--lr', '1e30'))
        assert result.returncode == 3
        assert len(result.stderr.strip().splitlines()) == 1
        assert 'the loss is' in result.stderr
        assert 'in epoch 3, iteration' in result.stderr
        assert read_manifest(workspace / 'model_resume.json')[0].epoch == 2
        json.loads((workspace / 'report.json').read_text(), parse_constant=pytest.fail)


class TestOptions:
    def test_no_metrics(self, small_data, tmp_path):
        output = succeed_here(*resumable(small_data, tmp_path, '--no-metrics', '-e', '1', '--ema-decay', '0.5'))
        metrics = read_report(tmp_path / 'report.json')['metrics']
        assert 'train.loss' not in metrics
        assert 'train.top1' not in metrics
        assert metrics['train.total_ips'][0] > 0
        assert metrics['val.top1']
        assert 'epoch 1 step 5/15: ' in output
        assert 'loss' not in output.split('epoch 1/1')[0]

    def test_begin_epoch(self, small_data, trained, tmp_path):
        options = (
            '--load',
            trained / 'model_best.params',
            '--begin-epoch',
            '3',
            '--disp-batches',
            '1',
            '--benchmark-iters',
            '2',
        )
        output = succeed_here(*resumable(small_data, tmp_path, *options))
        assert output.count('epoch 4 step 1/2') == 1
        assert 'epoch 3 step' not in output

    def test_multistep(self, small_data, tmp_path):
        options = ('--lr-schedule', 'multistep', '--lr-steps', '1,2', '--lr-factor', '0.1', '-e', '3', '-l', '16')
        output = succeed_here(
            *resumable(
                small_data, tmp_path, *options, '--warmup-epochs', '0', '--disp-batches', '2', '--benchmark-iters', '2'
            )
        )
        rates = [line.rsplit(' ', 1)[1] for line in output.splitlines() if 'learning rate' in line]
        assert rates == ['1', '0.1', '0.01']

    def test_tensorboard(self, small_data, tmp_path):
        succeed_here(*resumable(small_data, tmp_path, '-e', '1', '--tensorboard', tmp_path / 'board'))
        (events,) = (tmp_path / 'board').iterdir()
        content = events.read_bytes()
        for name in ('train.loss', 'train.lr', 'epoch/train.loss', 'epoch/train.top1', 'epoch/train.top5'):
            assert name.encode() in content
        for name in ('loss', 'accuracy', 'top_k_accuracy_5'):
            assert f'epoch/val.{name}'.encode() in content
            assert f'epoch/ema.{name}'.encode() in content

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (('--run-epochs', '0'), '--run-epochs 0'),
            (('--begin-epoch', '4'), '--begin-epoch 4'),
            (('--lr-schedule', 'multistep'), '--lr-steps'),
            (('--lr-steps', '3,2'), '--lr-steps 3,2: epochs must be in ascending order'),
            (('--early-stop-top1', '97'), '--early-stop-top1 97'),
            (('--grad-accum-steps', '16'), '--grad-accum-steps 16: an epoch has only 15 batches'),
        ],
    )
    def test_contradictions(self, small_data, tmp_path, options, message):
        assert_user_error(call_here(*resumable(small_data, tmp_path, *options)), message)
