"""`--mode calibrate`: int8 networks from a checkpoint, and the commands that run them."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed, succeed_here, training
from imagenet.checkpoints.parameters import write_arrays
from imagenet.inference.engines import ENGINES
from imagenet.reporting.report_file import read_report
from imagenet.runtime import processor
from imagenet.runtime.compat import mx

# With this backend, validation decodes images the same way as prediction.
RUN = ('./runner', *SMALL, '--data-backend', 'mxnet', '--mode')


CALIBRATE = (*RUN, 'calibrate', '--seed', '1')


# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('quantization')


@pytest.fixture(scope='module')
def int8(trained, small_data, tmp_path_factory):
    """The prefix of an int8 network calibrated with all training images."""
    folder = tmp_path_factory.mktemp('int8')
    options = ('--load', trained / 'model_best.params', '--data-root', small_data, '--workspace', folder)
    succeed_here(*CALIBRATE, *options, '--calib-images', '240', '-o', folder / 'net')
    return folder / 'net-int8'


def described(prefix):
    return json.loads(prefix.with_suffix('.json').read_text())


def test_description(int8, trained):
    description = described(int8)
    checkpoint = (trained / 'model_best.params').read_bytes()
    assert description['made_from']['sha256'] == hashlib.sha256(checkpoint).hexdigest()
    assert description['network']['num_layers'] == 10
    assert description['calibration']['images'] == 240
    assert len(description['calibration']['sha256']) == 64
    assert description['validation']['examples'] == 70
    assert description['validation']['instruction_set'] == processor.instruction_set().name
    assert description['validation']['top1_float32'] - description['validation']['top1_int8'] <= 0.005
    assert description['classes'][3] == '3_three'
    assert description['input']['centre_crop'] == [32, 32]
    assert (description['input']['interpolation'], description['input']['antialiased']) == ('triangular', True)
    assert description['onnx']['validation'].keys() == ENGINES.keys()
    for quality in description['onnx']['validation'].values():
        assert quality['top1_float32'] - quality['top1_int8'] <= 0.005
    assert description['files'].keys() == {'net-int8-symbol.json', 'net-int8.params', 'net-int8.onnx'}


@pytest.mark.parametrize('engine', ENGINES)
def test_engine_gives_what_the_description_says(int8, small_data, tmp_path, engine):
    options = ('--load', f'{int8}.onnx', '--data-root', small_data, '--workspace', tmp_path, '--engine', engine)
    succeed_here(*RUN, 'val', *options)
    expected = described(int8)['onnx']['validation'][engine]['top1_int8']
    assert read_report(tmp_path / 'report.json')['metrics']['val.top1'] == [pytest.approx(expected)]


def test_fastest_engine(int8, small_tree):
    options = ('--mode', 'pred', '--load', int8, '--data-pred', small_tree / 'val', '--engine', 'auto')
    result = call_here('./runner', *SMALL, *options)
    assert result.returncode == 0
    assert '--engine auto: ' in result.stderr


def test_validation_gives_what_the_description_says(int8, trained, small_data, tmp_path):
    expected = described(int8)['validation']
    for load, name in (
        (int8, 'top1_int8'),
        (f'{int8}.params', 'top1_int8'),
        (trained / 'model_best.params', 'top1_float32'),
    ):
        succeed_here(*RUN, 'val', '--load', load, '--data-root', small_data, '--workspace', tmp_path)
        assert read_report(tmp_path / 'report.json')['metrics']['val.top1'] == [pytest.approx(expected[name])]


def test_prediction_and_benchmark(int8, trained, small_tree, tmp_path):
    found = []
    for load in (int8, trained / 'model_best.params'):
        options = ('--mode', 'pred', '--load', load, '--data-pred', small_tree / 'val', '-o', tmp_path / 'found.json')
        succeed_here('./runner', *SMALL, *options)
        found.append([result['classes'][0]['name'] for result in json.loads((tmp_path / 'found.json').read_text())])
    agreement = np.mean([ours == theirs for ours, theirs in zip(*found)])
    assert agreement == pytest.approx(described(int8)['validation']['agreement'])
    network = ('--num-layers', '10', '--image-shape', '3,32,32', '--data-val-resize', '32', '--device', 'cpu')
    options = ('-b', '4', '-i', '3', '--mode', 'val', '--data-backend', 'synthetic', '--load', int8)
    succeed_here(sys.executable, 'benchmark.py', *options, *network, '-o', tmp_path / 'sweep.json')
    assert json.loads((tmp_path / 'sweep.json').read_text())['metrics']['1']['4']['val.total_ips'] > 0


def test_ranges_follow_from_images_and_mode(int8, trained, small_data, tmp_path):
    options = ('--load', trained / 'model_best.params', '--data-root', small_data, '--workspace', tmp_path)
    for mode, images, is_same in (('minmax', '240', True), ('entropy', '16', False)):
        succeed_here(*CALIBRATE, *options, '--calib-images', images, '--calib-mode', mode, '-o', tmp_path / mode)
        graph = (tmp_path / f'{mode}-int8-symbol.json').read_text()
        assert (graph == Path(f'{int8}-symbol.json').read_text()) == is_same


def test_layers_go_back_until_the_accuracy_holds(small_data, tmp_path):
    """Weights of a feature that is always 0 have no effect in float32. But if they dwarf all other weights, int8 has no
    levels left for the others, and the network assigns the same class to every image."""
    succeed_here(*training(small_data, tmp_path / 'run', '-e', '40', '--early-stop-top1', '0.6'))
    arrays = mx.nd.load(str(tmp_path / 'run' / 'model_best.params'))
    arrays['features.6.0.bn_add_relu.gamma'][0] = 0
    arrays['features.6.0.bn_add_relu.beta'][0] = -1000
    arrays['output.weight'][:, 0] = 1000 * arrays['output.weight'].abs().max()
    write_arrays(tmp_path / 'net.params', arrays)
    options = ('--load', tmp_path / 'net.params', '--data-root', small_data, '--workspace', tmp_path)
    output = succeed_here(*CALIBRATE, *options, '--calib-images', '240', '--max-drop', '0.02')
    description = described(tmp_path / 'net-int8')
    quality = description['validation']
    assert quality['top1_float32'] - quality['top1_int8'] <= 0.02
    assert description['in_float32'][0] == 'output.weight'
    in_onnx = description['onnx']['in_float32']
    assert [line.split()[0] for line in output.splitlines() if 'returns to float32' in line] == [
        *description['in_float32'],
        *in_onnx,
    ]
    assert 'output.weight' in in_onnx
    for quality in description['onnx']['validation'].values():
        assert quality['top1_float32'] - quality['top1_int8'] <= 0.02


@pytest.mark.parametrize(
    'broken, works, message',
    [
        ('openvino', ['onnxruntime'], '--engine openvino: fails (libbroken.so is missing); use --engine mxnet'),
        # It would make the file for OpenVINO, too.
        ('onnxruntime', None, 'no int8 network for engines other than mxnet: --engine onnxruntime: cannot be loaded'),
    ],
)
def test_engine_that_fails_is_left_out(trained, small_data, tmp_path, broken, works, message):
    (tmp_path / broken).mkdir()
    (tmp_path / broken / '__init__.py').write_text("raise ImportError('libbroken.so is missing')")
    options = ('--load', trained / 'model_best.params', '--data-root', small_data, '--workspace', tmp_path)
    command = (*CALIBRATE, *options, '--calib-images', '16', '--max-drop', '1')
    assert message in succeed(*command, '-o', tmp_path / 'net', env={'PYTHONPATH': str(tmp_path)})
    description = described(tmp_path / 'net-int8')
    assert description['validation']['examples'] == 70
    assert ('net-int8.onnx' in description['files']) == (works is not None)
    assert works == (list(description['onnx']['validation']) if 'onnx' in description else None)


def test_every_engine_fails(trained, small_data, tmp_path, monkeypatch):
    class Failing:
        DTYPES = ('float32',)

        def __init__(self, *_):
            raise RuntimeError('no such operator')

    for name in ENGINES:
        monkeypatch.setitem(ENGINES, name, Failing)
    options = ('--load', trained / 'model_best.params', '--data-root', small_data, '--workspace', tmp_path)
    output = succeed_here(*CALIBRATE, *options, '--calib-images', '16', '--max-drop', '1', '-o', tmp_path / 'net')
    assert 'no int8 network for engines other than mxnet: all that are installed fail' in output
    assert described(tmp_path / 'net-int8')['files'].keys() == {'net-int8-symbol.json', 'net-int8.params'}


class TestBadInput:
    @pytest.fixture
    def calibrate(self, trained, small_data, tmp_path):
        options = ('--load', trained / 'model_best.params', '--data-root', small_data, '--workspace', tmp_path)
        return *CALIBRATE, *options, '-o', tmp_path / 'net'

    def test_fewer_images_than_asked(self, calibrate):
        assert_user_error(call_here(*calibrate, '--calib-images', '241'), '--calib-images 241', 'train.rec holds 240')

    def test_options(self, calibrate, tmp_path):
        for options, expected in (
            (('--calib-images', '0'), '--calib-images 0'),
            (('--max-drop', '-1'), '--max-drop -1'),
            (('-o', tmp_path / 'none' / 'net'), 'no such folder'),
            (('--data-val', tmp_path / 'none.rec'), 'none.rec'),
            (('-H', 'host:2'), '-H with --mode calibrate'),
        ):
            assert_user_error(call_here(*calibrate, *options), expected)

    def test_files_that_exist(self, int8, calibrate):
        assert_user_error(call_here(*calibrate, '-o', str(int8)[: -len('-int8')]), 'this file exists', '-o')

    def test_int8_of_int8(self, int8, calibrate):
        assert_user_error(call_here(*calibrate, '--load', int8), 'works only with --mode val and pred')

    def test_another_network(self, int8, small_data, tmp_path):
        options = ('--mode', 'val', '--load', int8, '--data-root', small_data, '--workspace', tmp_path)
        result = call_here('./runner', *SMALL, *options, '--num-layers', '34')
        assert_user_error(result, 'parameters of another network', '--num-layers 34 instead of 10')

    def test_damaged_and_missing_files(self, int8, small_data, tmp_path):
        command = ('./runner', *SMALL, '--mode', 'val', '--data-root', small_data, '--workspace', tmp_path, '--load')
        assert_user_error(call_here(*command, tmp_path / 'none-int8'), 'cannot read', '--mode calibrate')
        copy = tmp_path / 'copy'
        shutil.copytree(int8.parent, copy)
        (copy / 'net-int8.params').write_bytes((copy / 'net-int8.params').read_bytes()[:-1])
        assert_user_error(
            call_here(*command, copy / 'net-int8'), 'net-int8.params is missing, damaged or of another network'
        )
        (copy / 'net-int8.onnx').write_bytes((copy / 'net-int8.onnx').read_bytes()[:-1])
        for engine in ENGINES:
            result = call_here(*command[:-1], '--engine', engine, '--load', copy / 'net-int8')
            assert_user_error(result, 'net-int8.onnx is missing, damaged or of another network')
        (copy / 'net-int8.json').write_text('[]')
        assert_user_error(call_here(*command, copy / 'net-int8'), 'not a description of an int8 network')

    def test_without_a_file_for_engines(self, int8, small_data, tmp_path):
        copy = shutil.copytree(int8.parent, tmp_path / 'copy')
        description = described(copy / 'net-int8')
        del description['files']['net-int8.onnx']
        (copy / 'net-int8.json').write_text(json.dumps(description))
        command = (*RUN, 'val', '--data-root', small_data, '--workspace', tmp_path, '--load', copy / 'net-int8')
        assert_user_error(call_here(*command, '--engine', 'openvino'), 'has no net-int8.onnx for engines')
        assert 'has no net-int8.onnx' in succeed_here(*command, '--engine', 'auto')

    def test_several_processes(self, trained):
        command = (sys.executable, 'train.py', '--device', 'cpu', '--mode', 'calibrate')
        result = call_here(*command, '--load', trained / 'model_best.params', env={'HOROVOD_SIZE': '2'})
        assert_user_error(result, '--mode calibrate with 2 processes')

    def test_training(self, int8, small_data, tmp_path):
        options = ('--load', int8, '--data-root', small_data, '--workspace', tmp_path)
        assert_user_error(
            call_here('./runner', *SMALL, *options), 'an int8 network works only with --mode val and pred'
        )
