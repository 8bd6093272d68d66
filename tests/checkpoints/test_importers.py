"""Importers: networks of other packages compute here what they compute there."""

import json

import numpy as np
import pytest

from helpers.foreign_networks import NETWORKS, array_shapes, draw_arrays, drawn_arrays, drawn_images
from helpers.networks import make
from imagenet.architectures.identification import identify
from imagenet.architectures.registry import ARCHITECTURES
from imagenet.checkpoints.description import read_description
from imagenet.checkpoints.importers.sources import place_arrays, recognize
from imagenet.checkpoints.loading import load_parameters
from imagenet.checkpoints.parameters import canonical_shapes
from imagenet.checkpoints.weight_file import without_counters
from imagenet.common.errors import UserError
from imagenet.inference.export import PYTORCH_NAMES
from imagenet.runtime.compat import mx

# With more parameters than these, only names and shapes are compared.
MOST_PARAMETERS = 30_000_000
KNOWN = [key for key, network in NETWORKS.items() if network['options']]
UNKNOWN = [key for key, network in NETWORKS.items() if not network['options']]
COMPUTED = [key for key in KNOWN if NETWORKS[key]['trainable'] < MOST_PARAMETERS and 'logits_norm' in NETWORKS[key]]
PREFIXED = [key for key in KNOWN if 'prefixed' in NETWORKS[key]]


def zeros(shapes):
    """Return arrays without memory of their own, by name."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def loaded(path):
    """Return the network that a file is for, with the file's values."""
    file = read_description(path, identify)
    options = {**file.assumed, **file.known}
    names = ('arch', 'num_layers', 'num_groups', 'num_classes', 'padding', 'batchnorm_eps')
    net = make(image_shape=(3, 64, 64), **{name: options[name] for name in names if name in options})
    load_parameters(net, path)
    return net


def assert_logits(net, network):
    logits = net(mx.nd.array(drawn_images())).asnumpy()[0]
    expected, norm = np.array(network['logits_first']), network['logits_norm']
    np.testing.assert_allclose(logits[: len(expected)], expected, rtol=0, atol=1e-4 * norm / np.sqrt(len(logits)))
    np.testing.assert_allclose(np.linalg.norm(logits), norm, rtol=1e-4)


@pytest.mark.parametrize('key', KNOWN)
def test_names_and_shapes(key):
    check_names_and_shapes(array_shapes(key), NETWORKS[key])


@pytest.mark.parametrize('key', PREFIXED)
def test_names_with_prefixes(key):
    network = NETWORKS[key]
    shapes = dict(zip(network['prefixed'], array_shapes(key).values()))
    check_names_and_shapes({f'{network["prefix"]}{name}': shape for name, shape in shapes.items()}, network)
    if network['options']['arch'] != 'resnetv1c':
        # Without the prefix, it would be taken for ResNet-D, whose parameters have the same shapes.
        check_names_and_shapes(shapes, network)


@pytest.mark.parametrize('key', [key for key in KNOWN if key.startswith('timm') or key == 'torchvision/resnet50'])
def test_names_that_are_written(key):
    """`--mode export --format safetensors` writes exactly the names that timm's networks have."""
    options = NETWORKS[key]['options']
    shapes = canonical_shapes(make(image_shape=(3, 64, 64), num_classes=1000, **options))
    names = PYTORCH_NAMES[ARCHITECTURES[options['arch']].family](shapes)
    assert {names[name]: shape for name, shape in shapes.items()} == without_counters(array_shapes(key))


def check_names_and_shapes(shapes, network):
    arrays = without_counters(zeros(shapes))
    found = recognize(arrays, 'net.params')
    options = identify(found.weights, found.stride_on_3x3, found.averages_shortcuts)
    assert options == {**network['options'], 'num_classes': 1000}
    expected = canonical_shapes(make(image_shape=(3, 64, 64), **options))
    placed = place_arrays(arrays, found, expected)
    assert {name: array.shape for name, array in placed.items()} == expected


@pytest.mark.parametrize('key', UNKNOWN)
def test_network_that_no_architecture_is_like(key, tmp_path):
    mx.nd.save(
        str(tmp_path / 'net.params'), {name: mx.nd.zeros(shape or (1,)) for name, shape in array_shapes(key).items()}
    )
    with pytest.raises(
        UserError, match=r'a network of torchvision, timm or GluonCV, but no --arch has \d+ blocks of these'
    ):
        read_description(tmp_path / 'net.params', identify)


@pytest.mark.parametrize('key', COMPUTED)
def test_logits(key, tmp_path):
    # The name of a file tells weights from TensorFlow, which need its padding.
    path = tmp_path / f'{key.rpartition("/")[2]}.params'
    mx.nd.save(str(path), {name: mx.nd.array(array) for name, array in without_counters(drawn_arrays(key)).items()})
    assert_logits(loaded(path), NETWORKS[key])


@pytest.mark.parametrize('name', ['resnet18_v1', 'resnet50_v1'])
@pytest.mark.parametrize('form', ['names', 'prefixes', 'stripped', 'symbol'])
def test_model_zoo(name, form, tmp_path):
    """The zoo itself writes each of its forms."""
    key, images = f'mxnet_zoo/{name}', mx.nd.array(drawn_images())
    net, path = getattr(mx.gluon.model_zoo.vision, name)(), tmp_path / 'net.params'
    net.initialize()
    net.hybridize()
    net(images)
    arrays = drawn_arrays(key)
    for structural, param in net._collect_params_with_prefix().items():
        param.set_data(mx.nd.array(arrays[structural]))
    net(images)
    if form == 'names':
        net.save_parameters(str(path))
    elif form == 'symbol':
        path = tmp_path / 'net-0000.params'
        net.export(str(tmp_path / 'net'))
    else:
        net.collect_params().save(str(path), strip_prefix=net.prefix if form == 'stripped' else '')
    assert_logits(loaded(path), NETWORKS[key])


BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def module_symbol(num_layers, stride_on_3x3, normalizes_input):
    """Return a network as MXNet's example/image-classification builds it, without SoftmaxOutput."""

    def convolution(x, name, channels, kernel, stride=1):
        pad = (kernel // 2,) * 2
        sizes = {'num_filter': channels, 'kernel': (kernel,) * 2, 'stride': (stride,) * 2, 'pad': pad}
        return mx.sym.Convolution(x, no_bias=True, name=name, **sizes)

    def norm(x, name, fix_gamma=False):
        return mx.sym.BatchNorm(x, fix_gamma=fix_gamma, eps=2e-5, momentum=0.9, name=name)

    def unit(x, name, channels, stride, is_first):
        strides = (1, stride, 1) if stride_on_3x3 else (stride, 1, 1)
        y, widths = x, (channels // 4, channels // 4, channels)
        for number, (width, kernel, layer_stride) in enumerate(zip(widths, (1, 3, 1), strides), 1):
            y = norm(convolution(y, f'{name}_conv{number}', width, kernel, layer_stride), f'{name}_bn{number}')
            y = mx.sym.Activation(y, act_type='relu') if number < 3 else y
        if is_first:
            x = norm(convolution(x, f'{name}_conv1sc', channels, 1, stride), f'{name}_sc')
        return mx.sym.Activation(y + x, act_type='relu')

    x = mx.sym.Variable('data')
    x = norm(x, 'bn_data', fix_gamma=True) if normalizes_input else mx.sym.identity(x)
    x = mx.sym.Activation(norm(convolution(x, 'conv0', 64, 7, 2), 'bn0'), act_type='relu')
    x = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max')
    for stage, count in enumerate(BLOCKS[num_layers]):
        for number in range(count):
            stride = 2 if stage and not number else 1
            x = unit(x, f'stage{stage + 1}_unit{number + 1}', 256 * 2**stage, stride, not number)
    x = mx.sym.Flatten(mx.sym.Pooling(x, global_pool=True, kernel=(7, 7), pool_type='avg'))
    return mx.sym.FullyConnected(x, num_hidden=1000, name='fc1')


@pytest.fixture(params=[(False, False), (True, False), (True, True)])
def module_checkpoint(request, tmp_path):
    """The parameters' path of a Module API checkpoint, its --arch, and the logits of `drawn_images`."""
    stride_on_3x3, normalizes_input = request.param
    symbol = module_symbol(50, stride_on_3x3, normalizes_input)
    arguments, _, states = symbol.infer_shape(data=(1, 3, 64, 64))
    shapes = {**dict(zip(symbol.list_arguments(), arguments)), **dict(zip(symbol.list_auxiliary_states(), states))}
    del shapes['data']
    arrays = {name: mx.nd.array(array) for name, array in draw_arrays(shapes, variance=2).items()}
    bound = symbol.bind(
        mx.cpu(),
        {'data': mx.nd.array(drawn_images()), **pick_arrays(arrays, symbol.list_arguments())},
        aux_states=pick_arrays(arrays, symbol.list_auxiliary_states()),
        grad_req='null',
    )
    logits = bound.forward(is_train=False)[0].asnumpy()
    mx.model.save_checkpoint(
        str(tmp_path / 'net'),
        90,
        mx.sym.SoftmaxOutput(symbol, name='softmax'),
        pick_arrays(arrays, symbol.list_arguments()),
        pick_arrays(arrays, symbol.list_auxiliary_states()),
    )
    return tmp_path / 'net-0090.params', f'resnetv1{"5" if stride_on_3x3 else ""}', logits


def pick_arrays(arrays, names):
    return {name: arrays[name] for name in names if name in arrays}


def test_module_api(module_checkpoint):
    path, arch, expected = module_checkpoint
    file = read_description(path, identify)
    assert (file.known['arch'], file.known['num_layers'], file.known['batchnorm_eps']) == (arch, 50, 2e-5)
    # A batch norm of the images is left to their preparation.
    mean, std = (
        np.array(file.known.get(name, usual)) for name, usual in (('rgb_mean', (0,) * 3), ('rgb_std', (1,) * 3))
    )
    images = (drawn_images() - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    found = loaded(path)(mx.nd.array(images)).asnumpy()
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_symbol_of_older_versions(module_checkpoint):
    """Before version 1.0, the attributes of a node were called `attr` or `param`."""
    path, arch, _ = module_checkpoint
    symbol = path.with_name('net-symbol.json')
    for name in ('attr', 'param'):
        content = json.loads(symbol.read_text())
        for node in content['nodes']:
            node[name] = node.pop('attrs', None) or node.pop('attr', {})
        symbol.write_text(json.dumps(content))
        assert read_description(path, identify).known['arch'] == arch


def test_timm_says_how_to_prepare_images(tmp_path):
    key = 'timm/efficientnet_b0'
    mx.nd.save(
        str(tmp_path / 'model.params'), {name: mx.nd.zeros(shape or (1,)) for name, shape in array_shapes(key).items()}
    )
    path = tmp_path / 'model.params'
    assert read_description(path, identify).assumed['padding'] == 'symmetric'
    config = {
        'input_size': [3, 256, 256],
        'crop_pct': 0.95,
        'interpolation': 'bilinear',
        'mean': [0.5] * 3,
        'std': [0.25] * 3,
    }
    content = {'architecture': 'tf_efficientnet_b0', 'num_classes': 1000, 'pretrained_cfg': config}
    (tmp_path / 'config.json').write_text(json.dumps(content))
    assert read_description(path, identify).assumed == {
        'padding': 'same',
        'batchnorm_eps': 1e-3,
        'image_shape': (3, 256, 256),
        'data_val_resize': 269,
        'interpolation': 'triangular',
        'rgb_mean': (127.5,) * 3,
        'rgb_std': (63.75,) * 3,
    }
    (tmp_path / 'config.json').write_text(json.dumps({'other': 'package'}))
    assert read_description(path, identify).assumed['padding'] == 'symmetric'
    (tmp_path / 'config.json').write_text(json.dumps({**content, 'pretrained_cfg': {**config, 'crop_pct': 'all'}}))
    with pytest.raises(UserError, match="config.json: not a description of one of timm's networks"):
        read_description(path, identify)


def test_unknown_source(tmp_path):
    arrays = {name: mx.nd.zeros(shape or (1,)) for name, shape in array_shapes('torchvision/resnet18').items()}
    mx.nd.save(str(tmp_path / 'net.params'), {**arrays, 'head.weight': mx.nd.zeros(3)})
    with pytest.raises(
        UserError,
        match=r'of no package .*torchvision, timm or GluonCV: 1 of 103 names do not fit, such as head.weight; ',
    ):
        read_description(tmp_path / 'net.params', identify)
    del arrays['fc.weight'], arrays['fc.bias']
    mx.nd.save(str(tmp_path / 'net.params'), arrays)
    with pytest.raises(UserError, match='0 of 100 names do not fit, and a part of the network is missing'):
        read_description(tmp_path / 'net.params', identify)
