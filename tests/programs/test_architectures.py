"""Every family does what the default network does: train, resume, validate, predict, and leave for other programs."""

import json
import re

import pytest

import train
from helpers.commands import assert_user_error, call, succeed
from imagenet.reporting.report_file import read_report

# The last average pooling of a ResNet-D sees 4 x 3 pixels.
OPTIONS = ('--image-shape', '3,63,47', '--data-val-resize', '63', '-b', '16', '--seed', '7', '--device', 'cpu')


def command(data, workspace, *options):
    return './runner', *OPTIONS, '--data-root', data, '-e', '2', '-l', '0.2', '--workspace', workspace, *options


@pytest.mark.parametrize(
    'options',
    [('efficientnet_b0', '--padding', 'same'), ('efficientnet_lite0',), ('resnetv1d', '--num-layers', '18')],
)
def test_from_training_to_export(options, small_data, tmp_path):
    run = command(small_data, tmp_path, '--arch', *options)
    output = succeed(*run, '--run-epochs', '1')
    assert re.search(f'{options[0]}(-18)?, float32', output)
    assert '1 of 2 epochs are done; the same command resumes it' in output
    assert '1 of 2 epochs and 0 steps are done' in succeed(*run)
    trained = read_report(tmp_path / 'report.json')['metrics']
    best = trained['val.top1'].index(max(trained['val.top1']))

    # The file describes the network: a fused graph computes the same.
    network, scored = tmp_path / 'model_best.params', tmp_path / 'scored'
    read = ('--load', network, '--data-root', small_data, '--workspace', scored, '-b', '10', '--device', 'cpu')
    succeed('./runner', *read, '--mode', 'val')
    found = read_report(scored / 'report.json')['metrics']
    assert found['val.loss'][0] == pytest.approx(trained['val.loss'][best], rel=1e-4)

    prefix = tmp_path / 'made'
    calibrated = succeed(
        './runner', *read, '--mode', 'calibrate', '--max-drop', '1', '--calib-images', '32', '-o', prefix
    )
    assert 'predictions agree' in calibrated
    described = json.loads((tmp_path / 'made-int8.json').read_text())['network']
    assert (described['arch'], described['padding']) == (options[0], 'same' if 'same' in options else 'symmetric')
    image = next((small_data.parent / 'raw' / 'val').rglob('*.jpg'))
    for load in (network, f'{prefix}-int8'):
        lines = succeed('./runner', '--load', load, '--mode', 'pred', '--data-pred', image).splitlines()
        assert len(lines) == 10

    for form in ('symbol', 'onnx'):
        succeed('./runner', '--load', network, '--mode', 'export', '--format', form, '-o', tmp_path / 'exported')
    lines = succeed('./runner', '--load', tmp_path / 'exported-0000.params', '--mode', 'pred', '--data-pred', image)
    assert len(lines.splitlines()) == 10


def test_options_that_contradict(small_data, tmp_path):
    result = call(*command(small_data, tmp_path, '--arch', 'efficientnet_b8'))
    assert_user_error(result, "--arch: invalid choice: 'efficientnet_b8'")
    result = call(*command(small_data, tmp_path, '--padding', 'same'))
    assert_user_error(result, '--padding same: --arch resnetv15 has only symmetric')
    result = call(*command(small_data, tmp_path, '--drop-connect', '1'))
    assert_user_error(result, '--drop-connect 1: must be at least 0 and less than 1')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'image_shape', 'shorter_side', 'dropout'),
    [
        (('--arch', 'efficientnet_b3'), (3, 300, 300), 342, 0.3),
        (('--arch', 'efficientnet_b1', '--input-channels', '4'), (4, 240, 240), 274, 0.2),
        (('--arch', 'efficientnet_b1', '--input-channels', '4', '--image-shape', '3,64,64'), (3, 64, 64), 256, 0.2),
        (('--arch', 'efficientnet_lite4', '--dropout', '0', '--crop-fraction', '0.5'), (3, 300, 300), 600, 0),
        (('--input-channels', '4'), (4, 224, 224), 256, 0),
    ],
)
def test_defaults_of_the_architecture(options, image_shape, shorter_side, dropout, tmp_path):
    """Options that are left out are the architecture's own."""
    settings = ('--device', 'cpu', '--data-backend', 'synthetic', '--workspace', str(tmp_path))
    args, _ = train.resolve_args(train.parse_args([*settings, *options]))
    assert (args.image_shape, args.data_val_resize, args.dropout) == (image_shape, shorter_side, dropout)
    is_efficientnet = '--arch' in options
    found = (args.batchnorm_eps, args.batchnorm_mom, args.drop_connect)
    assert found == ((1e-3, 0.99, 0.2) if is_efficientnet else (1e-5, 0.9, 0))
    assert args.rgb_mean[0] == (127 if 'efficientnet_lite4' in options else 123.68)
