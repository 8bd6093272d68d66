"""Training images that grow in stages, each with its own batch size."""

import re
import signal

import pytest

from helpers.commands import SMALL, assert_user_error, call_here, resumable, succeed, succeed_here
from helpers.processes import read_until
from imagenet.checkpoints.trailer import read_trailer
from imagenet.common.files import file_sha256
from imagenet.reporting.report_file import read_report

pytestmark = pytest.mark.usefixtures('device')

# 240 training images: 15, 10 and 20 steps.
GROWING = ('--image-sizes', '0:24,1:32,3:40', '--stage-batch-sizes', '16,24,12')
GROWING += ('--val-image-size', '40', '--data-val-resize', '44')
PARTS = ('parameters', 'optimizer')


def outcome(workspace):
    metrics = read_report(workspace / 'report.json')['metrics']
    files = [f'model_resume_0004_000000_{part}.params' for part in PARTS]
    return {name: metrics[name] for name in ('train.loss', 'val.loss', 'val.top1', 'train.lr')}, {
        name: file_sha256(workspace / name) for name in ('model_best.params', *files)
    }


@pytest.fixture(scope='session')
def grown(small_data, tmp_path_factory):
    """The workspace and the output of a run that was not stopped."""
    workspace = tmp_path_factory.mktemp('grown')
    return workspace, succeed(*resumable(small_data, workspace, *GROWING))


def test_stages(grown):
    workspace, output = grown
    assert 'epoch 1: images of 24x24, batch size 16' in output
    assert 'epoch 2: images of 32x32, batch size 24' in output
    assert 'epoch 4: images of 40x40, batch size 12' in output
    steps = re.findall(r'epoch (\d) step \d+/(\d+)', output)
    assert dict(steps) == {'1': '15', '2': '10', '3': '10', '4': '20'}
    # The saved network is that of validation.
    description = read_trailer(workspace / 'model_best.params')
    assert tuple(description['image_shape']) == (3, 40, 40)
    assert description['data_val_resize'] == 44


def test_learning_rate_follows_the_batch(small_data, tmp_path):
    constant = ('--lr-schedule', 'piecewise', '--lr-points', '0:1', '--warmup-epochs', '0')
    succeed_here(*resumable(small_data, tmp_path, *GROWING, *constant))
    rates = read_report(tmp_path / 'report.json')['metrics']['train.lr']
    assert rates == pytest.approx([0.016, 0.024, 0.024, 0.012])


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.only_on_cpu('the order of additions varies on GPUs')
def test_stopped_in_each_stage(start, grown, small_data, tmp_path, number):
    for epoch in (1, 2, 3, 4):
        process = start(*resumable(small_data, tmp_path, *GROWING))
        read_until(process, f'epoch {epoch} step 5/')
        process.send_signal(number)
        process.communicate()
    succeed(*resumable(small_data, tmp_path, *GROWING))
    assert outcome(tmp_path) == outcome(grown[0])


def test_another_batch_size_within_an_epoch(start, small_data, tmp_path):
    process = start(*resumable(small_data, tmp_path, *GROWING))
    read_until(process, 'epoch 2 step 5/')
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    done = int(re.search(r'in epoch 2, after (\d+) of 10 steps', output).group(1))
    output = succeed_here(*resumable(small_data, tmp_path, *GROWING, '--stage-batch-sizes', '16,8,12'))
    assert f'as many examples are done as in {3 * done} steps of the new batch size' in output
    assert 'epoch 2 step 30/30' in output


@pytest.mark.gpus(2)
def test_processes_switch_together(small_data, tmp_path):
    optimizer = ('--optimizer', 'rmsprop_tf', '--lr', '0.02')
    output = succeed(*resumable(small_data, tmp_path, *GROWING, '-n', '2', '--stage-batch-sizes', '8,12,6', *optimizer))
    assert 'epoch 4: images of 40x40, batch size 12' in output
    assert len(read_report(tmp_path / 'report.json')['metrics']['val.top1']) == 4


def test_equal_stages_of_synthetic_images(tmp_path):
    data = ('--data-backend', 'synthetic', '--num-examples', '64', '--num-classes', '10', '--workspace', tmp_path)
    output = succeed_here('./runner', *SMALL, *data, '-e', '3', '--stages', '2', '--base-image-size', '16')
    assert 'epoch 1: images of 24x24, batch size 16' in output
    assert 'epoch 2: images of 32x32, batch size 16' in output


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--image-sizes', '0:32,2:24,2:40'), '--image-sizes 0:32,2:24,2:40: epochs must be in ascending order'),
        (('--image-sizes', '0-32'), '--image-sizes 0-32: must be two numbers with a colon in between'),
        (('--image-sizes', '0:32,4:40'), '--image-sizes 0:32,4:40: a stage begins after --num-epochs 4'),
        (('--image-sizes', '0:16,2:32', '--stage-batch-sizes', '16,400'), '--batch-size 400: the 240 training images'),
        (('--image-sizes', '0:16,2:32', '--stage-batch-sizes', '16'), '--stage-batch-sizes 16: must be one number for'),
        (('--image-sizes', '0:16,2:32', '--stage-magnitudes', '5,9'), '--stage-magnitudes: needs --auto-augment'),
        (
            ('--arch', 'resnetv1d', '--image-sizes', '0:16'),
            '--image-sizes 16: --arch resnetv1d needs a height and width of at least 17',
        ),
    ],
)
def test_wrong_options(small_data, tmp_path, options, message):
    assert_user_error(call_here(*resumable(small_data, tmp_path, *options)), message)


def test_batch_that_cannot_be_split(small_data, tmp_path):
    options = ('--kv-store', 'device', '--gpus', '0,1', '--batch-size', '16')
    command = resumable(small_data, tmp_path, '--image-sizes', '0:24,2:32', *options)
    result = call_here(*command, '--stage-batch-sizes', '16,25')
    assert_user_error(result, '--stage-batch-sizes 25: cannot be split equally over 2 processes or devices')
