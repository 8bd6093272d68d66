"""`--engine`: validation and prediction with ONNX Runtime and OpenVINO compute what MXNet does."""

import json

import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed, succeed_here
from imagenet.common.errors import UserError
from imagenet.common.options import with_changes
from imagenet.inference.engines import ENGINES
from imagenet.reporting.report_file import read_report
from imagenet.runtime import processor
from train import check_inference_args, parse_args

# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('engines')
ALL = ('mxnet', *ENGINES)


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    """The environment variable that chooses a folder for caches, and the folder."""
    folder = tmp_path_factory.mktemp('caches')
    return {'XDG_CACHE_HOME': str(folder)}, folder / 'imagenet-mxnet' / 'engines'


@pytest.fixture
def val(trained, small_data, tmp_path):
    """The command of a validation."""
    options = ('--load', trained / 'model_best.params', '--data-root', small_data, '--workspace', tmp_path)
    return './runner', *SMALL, '--mode', 'val', *options


def measured(folder):
    return read_report(folder / 'report.json')['metrics']


def test_validation(val, caches, tmp_path):
    """To the last example, and with the network of the cache, which both engines share."""
    found = {}
    for engine in ALL:
        output = succeed_here(*val, '--engine', engine, env=caches[0])
        assert ('its logits differ by' in output) == (engine != 'mxnet')
        found[engine] = measured(tmp_path)
        assert found[engine]['val.latency_50'] <= found[engine]['val.latency_100']
    for engine in ENGINES:
        for name in ('val.top1', 'val.top5'):
            assert found[engine][name] == found['mxnet'][name]
        assert found[engine]['val.loss'] == pytest.approx(found['mxnet']['val.loss'], rel=1e-4)
    (kept,) = caches[1].iterdir()
    # Writing it again would make another file of this name.
    written = kept.stat().st_ino
    succeed_here(*val, '--engine', 'openvino', env=caches[0])
    assert kept.stat().st_ino == written


def test_fastest_engine(val, trained, small_tree, caches, tmp_path):
    output = succeed_here(*val, '--engine', 'auto', env=caches[0])
    (line,) = (line for line in output.splitlines() if '--engine auto' in line)
    # A busy machine may leave no time to compare them.
    assert all(f' {name} ' in line for name in ALL) or 'a single image takes too long' in line
    tops = measured(tmp_path)['val.top1']
    succeed_here(*val, env=caches[0])
    assert measured(tmp_path)['val.top1'] == tops
    options = ('--mode', 'pred', '--load', trained / 'model_best.params', '--data-pred', small_tree / 'val')
    result = call_here('./runner', *SMALL, *options, '--engine', 'auto', env=caches[0])
    assert result.returncode == 0
    assert '--engine auto: ' in result.stderr


def test_fastest_engine_of_two_processes(val, caches, tmp_path):
    succeed(*val, '-n', '2', '-b', '8', '--engine', 'auto', env=caches[0])
    assert measured(tmp_path)['val.total_ips'][0] > 0


WITHOUT_ENGINES = """
import os, pathlib, sys
if os.environ.get('HOROVOD_RANK') == '1':
    sys.modules.update(onnxruntime=None, openvino=None)
    pathlib.Path(__file__).with_name('rank_1_has_none').touch()
"""


def test_fastest_engine_if_a_host_has_no_others(val, caches, tmp_path):
    """Rank 1 cannot import the others."""
    (tmp_path / 'sitecustomize.py').write_text(WITHOUT_ENGINES)
    result = succeed(*val, '-n', '2', '-b', '8', '--engine', 'auto', env={**caches[0], 'PYTHONPATH': str(tmp_path)})
    assert (tmp_path / 'rank_1_has_none').exists()
    assert '--engine auto: mxnet (' in result
    assert measured(tmp_path)['val.total_ips'][0] > 0


@pytest.mark.parametrize('engine', ENGINES)
def test_layouts_make_no_difference(val, caches, tmp_path, engine):
    tops = []
    for options in ((), ('--input-layout', 'NHWC', '--image-shape', '4,32,32')):
        succeed_here(*val, '--engine', engine, *options, '--data-backend', 'mxnet', env=caches[0])
        tops.append(measured(tmp_path)['val.top1'])
    assert tops[0] == tops[1]


def test_two_processes(val, caches, tmp_path):
    """Each validates its share, with its own cores."""
    tops = []
    for options in (('-n', '1'), ('-n', '2', '-b', '8', '--engine', 'openvino')):
        succeed(*val, *options, env=caches[0])
        tops.append(measured(tmp_path)['val.top1'])
    assert tops[0] == tops[1]


def test_without_a_checkpoint(caches, tmp_path):
    """Random weights can be measured; they are not kept."""
    before = list(caches[1].parent.glob('*'))
    options = ('--data-backend', 'synthetic', '--benchmark-iters', '2', '--workspace', tmp_path)
    succeed_here('./runner', *SMALL, '--mode', 'val', *options, '--engine', 'onnxruntime', env=caches[0])
    assert measured(tmp_path)['val.total_ips'][0] > 0
    assert list(caches[1].parent.glob('*')) == before


@pytest.mark.parametrize('engine', ENGINES)
def test_prediction(trained, small_tree, caches, tmp_path, engine):
    found = []
    for name in ('mxnet', engine):
        options = ('--load', trained / 'model_best.params', '--data-pred', small_tree / 'val', '--engine', name)
        succeed_here('./runner', *SMALL, '--mode', 'pred', *options, '-o', tmp_path / 'found.json', env=caches[0])
        found.append(json.loads((tmp_path / 'found.json').read_text()))
    for theirs, ours in zip(*found):
        assert theirs['file'] == ours['file']
        assert [entry['index'] for entry in theirs['classes']] == [entry['index'] for entry in ours['classes']]
        assert [entry['probability'] for entry in ours['classes']] == pytest.approx(
            [entry['probability'] for entry in theirs['classes']], rel=1e-3
        )


@pytest.mark.skipif(processor.instruction_set().bfloat16 is None, reason='this processor has no bfloat16')
@pytest.mark.parametrize('engine', ['mxnet', 'openvino', 'auto'])
def test_bfloat16(val, caches, tmp_path, engine):
    losses = []
    for dtype in ('float32', 'bfloat16'):
        output = succeed(*val, '--engine', engine, '--inference-dtype', dtype, env=caches[0])
        losses.append(measured(tmp_path)['val.loss'][0])
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.05)
    if engine == 'auto':
        (line,) = (line for line in output.splitlines() if '--engine auto' in line)
        assert ' openvino ' in line
        assert 'onnxruntime' not in line


class TestBadInput:
    def test_options(self, val):
        for options, expected in (
            (('--engine', 'tensorrt'), '--engine'),
            (('--engine', 'openvino', '--mode', 'train'), '--engine openvino: works only with --mode val and pred'),
            (('--engine', 'openvino', '--no-fuse'), '--no-fuse: has no meaning for --engine openvino'),
            (('--engine', 'onnxruntime', '--inference-dtype', 'bfloat16'), '--inference-dtype bfloat16: --engine onnx'),
            (('--mode', 'train', '--inference-dtype', 'bfloat16'), '--inference-dtype bfloat16: works only with'),
            (('--engine', 'openvino', '--gpus', '0,1'), '--engine openvino: runs on one CPU device per process'),
        ):
            assert_user_error(call_here(*val, *options), expected)

    def test_changed_cache(self, val, tmp_path):
        environment = {'XDG_CACHE_HOME': str(tmp_path / 'caches')}
        succeed_here(*val, '--engine', 'onnxruntime', env=environment)
        (kept,) = (tmp_path / 'caches' / 'imagenet-mxnet' / 'engines').iterdir()
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        kept.write_bytes(content)
        for engine in ENGINES:
            result = call_here(*val, '--engine', engine, env=environment)
            assert_user_error(result, kept, 'changed or damaged; remove the file')

    def test_cache_that_cannot_be_written(self, val, tmp_path):
        (tmp_path / 'file').touch()
        output = succeed_here(*val, '--engine', 'openvino', env={'XDG_CACHE_HOME': str(tmp_path / 'file')})
        assert 'the exported network is not kept for the next run' in output


def test_engine_on_a_gpu():
    """The device is checked before the engine."""
    args = with_changes(parse_args(['--mode', 'val', '--engine', 'openvino']), device='gpu')
    with pytest.raises(UserError, match='--engine openvino: runs on one CPU device per process; add --device cpu'):
        check_inference_args(args)
