"""export.py: files for other programs, loaded and run as those programs would."""

import importlib
import json

import numpy as np
import onnxruntime
import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed_here
from helpers.networks import make
from imagenet.checkpoints.loading import load_parameters
from imagenet.checkpoints.parameters import canonical_arrays
from imagenet.checkpoints.weight_file import read_weights
from imagenet.common.errors import UserError
from imagenet.inference import export
from imagenet.input_pipeline.transforms import load_image
from imagenet.reporting.report_file import read_report
from imagenet.runtime.compat import mx
from models import build_unfused
from train import complete_network, parse_args

# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('export')
ENDINGS = {
    'symbol': ('-symbol.json', '-0000.params', '-symbol-about.json'),
    'onnx': ('.onnx', '-onnx-about.json'),
    'safetensors': ('.safetensors', '-safetensors-about.json'),
}


@pytest.fixture(scope='module')
def exported(trained, small_data, tmp_path_factory):
    """The prefix of the exported files, and the output of each export."""
    prefix = tmp_path_factory.mktemp('exported') / 'net'
    options = ('--mode', 'export', '--load', trained / 'model_best.params', '--data-root', small_data, '-o', prefix)
    printed = [succeed_here('./runner', *SMALL, *options, '--format', format_) for format_ in ENDINGS]
    return prefix, printed


@pytest.fixture(scope='module')
def images_and_logits(trained, small_tree):
    """Seven images of digits, and the logits that the checkpoint's unfused network computes for them."""
    args, _ = complete_network(parse_args(['--load', str(trained / 'model_best.params')]))
    paths = sorted((small_tree / 'val').glob('*/*'))[::10]
    images = np.stack([load_image(path, args) for path in paths])
    return images, build_unfused(args)(mx.nd.array(images)).asnumpy()


def assert_same(found, expected):
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_symbol(exported, images_and_logits):
    prefix, _ = exported
    images, expected = images_and_logits
    with pytest.warns(UserWarning, match='Cannot decide type'):
        net = mx.gluon.SymbolBlock.imports(f'{prefix}-symbol.json', ['data'], f'{prefix}-0000.params')
    for size in (7, 1, 4):
        assert_same(net(mx.nd.array(images[:size])).asnumpy(), expected[:size])


def test_onnx(exported, images_and_logits):
    prefix, _ = exported
    images, expected = images_and_logits
    session = onnxruntime.InferenceSession(f'{prefix}.onnx')
    assert [value.name for value in session.get_inputs()] == ['data']
    for size in (7, 1, 4):
        (found,) = session.run(None, {'data': images[:size]})
        assert_same(found, expected[:size])


def test_safetensors(exported, trained):
    """The file has torchvision's names, and the same values to the last bit when it is loaded."""
    prefix, _ = exported
    names = set(read_weights(f'{prefix}.safetensors').arrays)
    assert {'conv1.weight', 'bn1.running_var', 'layer2.0.downsample.0.weight', 'layer4.0.bn2.bias', 'fc.bias'} < names
    net = make(num_layers=10)
    load_parameters(net, f'{prefix}.safetensors')
    found, expected = canonical_arrays(net), read_weights(trained / 'model_best.params').arrays
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name].asnumpy(), expected[name].asnumpy()) for name in expected)


@pytest.mark.parametrize('ending', ['-0000.params', '.safetensors'])
def test_written_file_loads_again(exported, trained, small_data, tmp_path, ending):
    prefix, _ = exported
    accuracies = []
    for load in (f'{prefix}{ending}', trained / 'model_best.params'):
        options = ('--mode', 'val', '--load', load, '--data-root', small_data, '--workspace', tmp_path)
        # The files say which network this is.
        assert 'resnetv15-10' in succeed_here('./runner', *options, '-b', '16')
        accuracies.append(read_report(tmp_path / 'report.json')['metrics']['val.top1'])
    assert accuracies[0] == accuracies[1]


def test_what_stands_beside_it(exported):
    prefix, printed = exported
    for (format_, endings), output in zip(ENDINGS.items(), printed):
        assert f'wrote {", ".join(f"{prefix}{ending}" for ending in endings)}' in output
        assert 'logits for 8 images of' in output
        about = json.loads(prefix.with_name(f'net-{format_}-about.json').read_text())
        assert about['classes'][:2] == ['0_zero', '1_one']
        assert about['input']['mean'] == [123.68, 116.779, 103.939]
        assert about['input']['shorter_side'] == 32
        assert (about['input']['interpolation'], about['input']['antialiased']) == ('triangular', True)
        assert about['compared']['relative_difference'] < 1e-4
    assert len(list(prefix.parent.iterdir())) == sum(map(len, ENDINGS.values()))


def test_without_data(trained, tmp_path):
    """Random images are used instead, and options for a GPU's layout make no difference."""
    options = ('--mode', 'export', '--load', trained / 'model_best.params', '-o', tmp_path / 'net')
    output = succeed_here('./runner', *SMALL, *options, '--input-layout', 'NHWC', '--image-shape', '4,32,32')
    assert '8 random images' in output
    assert json.loads((tmp_path / 'net-symbol-about.json').read_text())['input']['layout'] == 'NCHW'


@pytest.mark.parametrize('format_', ENDINGS)
def test_files_that_exist(exported, trained, format_):
    prefix, _ = exported
    before = prefix.with_name(f'net{ENDINGS[format_][0]}').read_bytes()
    options = ('--mode', 'export', '--load', trained / 'model_best.params', '-o', prefix, '--format', format_)
    assert_user_error(call_here('./runner', *SMALL, *options), 'this file exists', '-o')
    assert prefix.with_name(f'net{ENDINGS[format_][0]}').read_bytes() == before


def test_bad_input(trained, tmp_path):
    command = ('./runner', *SMALL, '--mode', 'export', '-o', tmp_path / 'net', '--load')
    assert_user_error(call_here(*command, tmp_path / 'none.params'), 'none.params')
    assert_user_error(call_here(*command, trained / 'model_best.params', '--num-layers', '34'), 'another network')
    assert_user_error(
        call_here(*command, trained / 'model_best.params', '-o', tmp_path / 'none' / 'net'), 'no such folder'
    )
    assert_user_error(call_here(*command[:-3]), '--mode export needs a network')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('arch', 'num_layers'), [('resnetv1', 50), ('resnextv1', 50), ('xception', 50)])
def test_networks_that_timm_does_not_have(tmp_path, arch, num_layers):
    with pytest.raises(UserError, match=f'--format safetensors: timm and torchvision have no {arch}'):
        export.check_export(tmp_path / 'net', 'safetensors', arch, num_layers)


@pytest.mark.parametrize(('arch', 'num_layers'), [('resnetv1', 18), ('resnextv15', 50), ('efficientnet_b0', 50)])
def test_networks_that_timm_has(tmp_path, arch, num_layers):
    export.check_export(tmp_path / 'net', 'safetensors', arch, num_layers)


def test_missing_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='needs onnx and onnxruntime: pip install -r requirements/onnx.txt'):
        export.check_export(tmp_path / 'net', 'onnx', 'resnetv15', 50)
