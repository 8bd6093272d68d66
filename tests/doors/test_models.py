"""models.py and layers.py: the networks, their parameters and their results."""

import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import models
from helpers.commands import assert_user_error, call_here, succeed_here
from helpers.networks import (
    CHANNELS_LAST,
    NETWORKS,
    as_input,
    make,
    make_initialized,
    random_arrays,
    random_images,
    relative_difference,
)
from helpers.reference_networks import Reference
from imagenet.architectures import layers
from imagenet.checkpoints import parameters
from imagenet.checkpoints.loading import load_parameters
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx
from imagenet.runtime.layouts import LAYOUTS

LAYOUT_NAMES = ('input_layout', 'conv_layout', 'batchnorm_layout', 'pooling_layout')
ALL_LAYOUTS = [dict(zip(LAYOUT_NAMES, chosen)) for chosen in itertools.product(LAYOUTS, repeat=4)]


def operators(net):
    return [node for node in json.loads(net(mx.sym.var('data')).tojson())['nodes'] if node['op'] != 'null']


@pytest.mark.parametrize(
    ('arch', 'num_layers', 'count'),
    [
        ('resnetv15', 10, 5418792),
        ('resnetv15', 18, 11689512),
        ('resnetv15', 34, 21797672),
        ('resnetv15', 50, 25557032),
        ('resnetv15', 101, 44549160),
        ('resnetv15', 152, 60192808),
        ('resnetv1', 50, 25557032),
        ('resnetv1c', 50, 25576264),
        ('resnetv1d', 18, 11708744),
        ('resnetv1d', 50, 25576264),
        ('resnetv1d', 152, 60212040),
        ('resnetv1s', 18, 11837992),
        ('resnetv1s', 50, 25680808),
        ('resnextv15', 50, 25028904),
        ('resnextv1', 50, 25028904),
        ('xception', 50, 22855952),
    ],
)
def test_trainable_parameters(arch, num_layers, count):
    net = models.get_model(arch=arch, num_layers=num_layers)
    trainable = (param for param in net.collect_params().values() if param.grad_req != 'null')
    assert sum(int(np.prod(param.shape)) for param in trainable) == count


@pytest.mark.parametrize(('arch', 'num_layers'), NETWORKS)
def test_logits_equal_the_reference(arch, num_layers):
    net = make(arch=arch, num_layers=num_layers)
    arrays = random_arrays(net)
    parameters.set_canonical(net, arrays)
    images = random_images(size=75)
    expected = Reference(arrays).logits(images, arch, num_layers)
    for _ in range(2):
        found = net(images)
        assert found.shape == (2, 10)
        assert found.dtype == np.float32
        assert relative_difference(found, expected) < 1e-4
        net.hybridize()


@pytest.mark.parametrize('num_layers', [18, 34, 50])
def test_logits_equal_the_model_zoo(num_layers):
    """MXNet's own ResNet v1 has biases in some convolutions; they are set to 0."""
    zoo = mx.gluon.model_zoo.vision.get_resnet(1, num_layers, classes=10)
    zoo.initialize()
    images = random_images(size=64)
    zoo(images)
    net = make(arch='resnetv1', num_layers=num_layers)
    arrays = random_arrays(net)
    parameters.set_canonical(net, arrays)
    # The zoo keeps a block's last batch norm inside the body, and we keep it outside. The order is the same.
    theirs = zoo._collect_params_with_prefix()
    for name in [name for name in theirs if 'bias' in name and not name.startswith('output')]:
        bias = theirs.pop(name)
        bias.set_data(mx.nd.zeros(bias.shape))
    assert len(theirs) == len(arrays)
    for param, array in zip(theirs.values(), arrays.values()):
        param.set_data(array)
    assert relative_difference(net(images), zoo(images)) < 1e-4


class ConvolutionThroughNCHW(layers.Convolution):
    """Computes a GPU's NHWC convolution on a CPU, with the GPU's weights."""

    def hybrid_forward(self, F, x, weight, bias=None):
        settings = {**self._kwargs, 'layout': 'NCHW'}
        to_nchw = {'axes': (0, 3, 1, 2)}
        weight = self._extended(F, weight)
        result = F.Convolution(F.transpose(x, **to_nchw), F.transpose(weight, **to_nchw), bias, **settings)
        return F.transpose(result, axes=(0, 2, 3, 1))


def convolution_on_a_cpu(*settings):
    return (ConvolutionThroughNCHW if settings[-1] == 'NHWC' else PlainConvolution)(*settings)


PlainConvolution = layers.Convolution
CONVOLUTIONS = {'cpu': PlainConvolution, 'gpu': convolution_on_a_cpu}


@pytest.mark.parametrize(
    'form',
    [{'device': 'cpu', 'fuse_bn_relu': 0}, {'device': 'cpu', 'fuse_bn_relu': 1}, {'device': 'gpu'}],
    ids=['cpu', 'cpu-fused', 'gpu'],
)
@pytest.mark.parametrize('layouts', ALL_LAYOUTS, ids=lambda layouts: '-'.join(layouts.values()))
def test_one_checkpoint_in_every_form(layouts, form, checkpoint_file, monkeypatch):
    """Each form gives the same logits, and the same parameters after a training step. The CPU runs GPU graphs too.

    A ResNet-D also pools in its shortcuts.
    """
    monkeypatch.setattr(layers, 'Convolution', CONVOLUTIONS[form['device']])
    path, images, expected_logits, expected_update = checkpoint_file
    net = make(arch='resnetv1d', **form, **layouts)
    load_parameters(net, path)
    net.hybridize()
    assert relative_difference(net(as_input(images, net)), expected_logits) < 1e-4
    loaded = {name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}
    for name, value in updated_parameters(net, images).items():
        difference, change = value - expected_update[name], expected_update[name] - loaded[name]
        # Rounding can put an activation close to 0 on the other side of ReLU, which changes some gradients a little.
        assert np.linalg.norm(difference) <= 0.1 * np.linalg.norm(change) + 1e-6, name


@pytest.fixture(scope='module')
def checkpoint_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'net.params'
    net = make(arch='resnetv1d')
    parameters.set_canonical(net, random_arrays(net))
    parameters.write_arrays(path, parameters.canonical_arrays(net))
    # Its average poolings see 19, 10 and 5 pixels.
    images = random_images(4, size=75)
    return path, images, net(images), updated_parameters(net, images)


def updated_parameters(net, images):
    """Return the canonical parameters after one step of SGD."""
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.1})
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(as_input(images, net)), mx.nd.arange(len(images)))
    loss.backward()
    trainer.step(len(images))
    return {
        name: parameters.to_canonical(name, param.data(), net.weight_layout).asnumpy()
        for name, param in parameters.named_parameters(net).items()
    }


@pytest.mark.parametrize(('arch', 'num_layers'), NETWORKS)
@pytest.mark.parametrize('batchnorm_layout', LAYOUTS)
def test_gpu_graph_computes_the_same(arch, num_layers, batchnorm_layout, monkeypatch):
    """The graph has NHWC weights, four channels and transposes. Only the operator that a CPU lacks is replaced."""
    monkeypatch.setattr(layers, 'Convolution', ConvolutionThroughNCHW)
    layouts = {'conv_layout': 'NHWC', 'batchnorm_layout': batchnorm_layout, 'pooling_layout': 'NHWC'}
    net = make(arch=arch, num_layers=num_layers, device='gpu', image_shape=(4, 64, 64), **layouts)
    assert net.weight_layout == 'NHWC'
    arrays = random_arrays(net)
    parameters.set_canonical(net, arrays)
    # Three images avoid batch norms with as many pixels as channels, whose layouts MXNet confuses on a CPU.
    images = random_images(3, size=64)
    assert relative_difference(net(as_input(images, net)), Reference(arrays).logits(images, arch, num_layers)) < 1e-4


def test_gpu_graph_with_same_padding(monkeypatch):
    """Weights (out, height, width, in) get zeros before their height and width, too."""
    monkeypatch.setattr(layers, 'Convolution', ConvolutionThroughNCHW)
    form = {'device': 'gpu', **CHANNELS_LAST, 'image_shape': (4, 75, 64), 'padding': 'same'}
    net = make(arch='efficientnet_b0', **form)
    arrays = random_arrays(net)
    parameters.set_canonical(net, arrays)
    images = mx.nd.array(np.random.RandomState(1).standard_normal((3, 3, 75, 64)))
    expected = Reference(arrays, 'same').logits(images, 'efficientnet_b0')
    assert relative_difference(net(as_input(images, net)), expected) < 1e-4


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize(('arch', 'num_layers'), NETWORKS)
def test_gpu_graph_infers_shapes_and_types(arch, num_layers, dtype):
    net = models.get_model(
        arch=arch, num_layers=num_layers, device='gpu', image_shape=(4, 224, 224), fuse_bn_relu=1, fuse_bn_add_relu=1,
        conv_layout='NHWC', batchnorm_layout='NHWC', pooling_layout='NHWC',
    )  # fmt: skip
    net.cast(dtype)
    symbol = net(mx.sym.var('data'))
    arguments, (logits,), statistics = symbol.infer_shape(data=(8, 4, 224, 224))
    assert logits == (8, 1000)
    canonical = {param.name: name for name, param in parameters.named_parameters(net).items()}
    shapes = dict(zip(symbol.list_arguments(), arguments))
    assert shapes['data'] == (8, 4, 224, 224)
    assert {canonical[name]: shape for name, shape in shapes.items() if name != 'data'} == {
        name: param.shape for name, param in parameters.named_parameters(net).items() if 'running' not in name
    }
    types, (logits_type,), _ = symbol.infer_type(data=dtype)
    assert logits_type == np.float32
    for name, found in zip(symbol.list_arguments(), types):
        assert found == (np.float32 if name.endswith(('gamma', 'beta')) else np.dtype(dtype)), name
    assert len(statistics) == sum('running' in name for name in canonical.values())


def count_transposes(**settings):
    return sum(node['op'] == 'transpose' for node in operators(make(**settings)))


def test_transposes_only_between_neighbours_that_disagree():
    channels_last = {'conv_layout': 'NHWC', 'batchnorm_layout': 'NHWC', 'pooling_layout': 'NHWC'}
    assert count_transposes() == 0
    assert count_transposes(device='gpu', **channels_last) == 1
    assert count_transposes(device='gpu', input_layout='NHWC', **channels_last) == 0
    # Both pools disagree with their neighbors; the last one is followed only by the dense layer.
    assert count_transposes(device='gpu', pooling_layout='NHWC') == 3
    # On a CPU, the complete network is built in NCHW, so only the input is transposed.
    assert count_transposes(**CHANNELS_LAST) == 1


def test_network_takes_any_image_size():
    for size in ((1, 1), (33, 65), (224, 160)):
        assert make()(mx.nd.ones((1, 3, *size))).shape == (1, 10)
    for arch, least in (('xception', 7), ('resnetv1d', 17)):
        shape = (3, least, least)
        assert make(arch=arch, image_shape=shape)(mx.nd.ones((1, *shape))).shape == (1, 10)


def test_groups_are_groups():
    convolutions = [node['attrs'] for node in operators(make(arch='resnextv15', num_layers=50, num_groups=16))
                    if node['op'] == 'Convolution']  # fmt: skip
    grouped = [attrs for attrs in convolutions if attrs['num_group'] == '16']
    assert len(grouped) == 16
    assert {attrs['kernel'] for attrs in grouped} == {'(3, 3)'}
    assert [int(attrs['num_filter']) for attrs in grouped[::5]] == [64, 128, 256, 512]


def test_fused_network_has_fused_operators():
    counts = [sum(node['op'] == '_contrib_BatchNormWithReLU' for node in operators(make(fuse_bn_relu=fuse)))
              for fuse in (0, 1)]  # fmt: skip
    assert counts == [0, 9]


def fake_operators(*names, **parameters):
    """Return a namespace of MXNet operators like that of a build with other operators."""

    def batch_norm(data, gamma, **_):
        return data, gamma

    def batch_norm_with_activation(data, gamma, act_type=None, **_):
        return data, gamma, act_type

    chosen = batch_norm_with_activation if parameters.get('act_type') else batch_norm
    return SimpleNamespace(BatchNorm=chosen, **dict.fromkeys(names, batch_norm))


def test_fused_layers_of_the_container_build():
    container = fake_operators('BatchNormAddRelu', act_type=True)
    found = layers.find_fused_layers('gpu', container)
    assert found == (layers.CuDNNBatchNormReLU, layers.CuDNNBatchNormAddReLU)


def test_fused_layers_of_other_builds():
    assert layers.find_fused_layers('gpu', fake_operators()) == (None, None)
    assert layers.find_fused_layers('gpu') == (None, None)
    assert layers.find_fused_layers('cpu') == (layers.OneDNNBatchNormReLU, None)


def test_missing_operator_is_said_once(caplog):
    with caplog.at_level('INFO', 'imagenet'):
        net = make(device='gpu', fuse_bn_relu=1, fuse_bn_add_relu=1)
    assert [record.getMessage().split(':')[0] for record in caplog.records] == [
        '--fuse-bn-relu 1',
        '--fuse-bn-add-relu 1',
    ]
    assert {node['op'] for node in operators(net)} >= {'BatchNorm', 'Activation', 'Convolution'}


def test_calls_of_the_container_operators():
    """The arguments have the names that the container's MXNet uses."""
    calls = []

    def record(*arrays, **settings):
        calls.append((arrays, settings))

    container = SimpleNamespace(BatchNorm=record, BatchNormAddRelu=record)
    settings = {'axis': 3, 'eps': 1e-5, 'momentum': 0.9, 'fix_gamma': False, 'use_global_stats': False, 'name': 'fwd'}
    layers.CuDNNBatchNormReLU(8, 'NHWC').hybrid_forward(container, 'x', 'gamma', 'beta', 'mean', 'var')
    assert calls.pop() == (('x', 'gamma', 'beta', 'mean', 'var'), {'act_type': 'relu', **settings})
    layers.CuDNNBatchNormAddReLU(8, 'NHWC').hybrid_forward(container, 'x', 'y', 'gamma', 'beta', 'mean', 'var')
    named = {'data': 'x', 'gamma': 'gamma', 'beta': 'beta', 'moving_mean': 'mean', 'moving_var': 'var', 'addend': 'y'}
    assert calls.pop() == ((), {**named, **settings})


def test_initial_values_follow_the_recipe():
    net = make_initialized(num_layers=18, num_classes=1000)
    values = {name: param.data().asnumpy() for name, param in parameters.named_parameters(net).items()}
    for name, value in values.items():
        if name.endswith('running_var'):
            assert (value == 1).all()
        elif name.endswith(('beta', 'bias', 'running_mean')):
            assert (value == 0).all()
        elif name.endswith('gamma'):
            assert (value == (0 if 'bn_add_relu' in name else 1)).all()
        else:
            fan_in = np.prod(value.shape[1:])
            assert value.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.05), name
            assert abs(value.mean()) < 0.1 * value.std()


def test_seed_gives_the_same_network_in_every_layout():
    drawn = []
    for settings in ({}, {'device': 'gpu', 'image_shape': (4, 32, 32), **CHANNELS_LAST}):
        mx.random.seed(3)
        net = make_initialized(**settings)
        drawn.append({
            name: parameters.to_canonical(name, param.data(), net.weight_layout).asnumpy()
            for name, param in parameters.named_parameters(net).items()
        })  # fmt: skip
    assert net.features[0].weight.data()[:, :, :, 3].abs().max() == 0
    for name, value in drawn[0].items():
        np.testing.assert_array_equal(value, drawn[1][name], err_msg=name)


def test_batch_norm_options_reach_every_layer():
    for settings in ({}, {'fuse_bn_relu': 1}):
        net = make(batchnorm_eps=1e-3, batchnorm_mom=0.5, **settings)
        found = [node['attrs'] for node in operators(net) if 'BatchNorm' in node['op']]
        assert len(found) == 20
        assert {(float(attrs['eps']), float(attrs['momentum'])) for attrs in found} == {(1e-3, 0.5)}


@pytest.mark.parametrize(
    ('arch', 'first', 'pools', 'count', 'multiply_adds'),
    [
        ('resnetv15', '1 x 64 x 112 x 112 9,408 118,013,952', [56, 1], 25557032, 4.089),
        ('resnetv1d', '1 x 32 x 112 x 112 864 10,838,016', [56, 28, 14, 7, 1], 25576264, 4.329),
    ],
)
def test_summary(arch, first, pools, count, multiply_adds):
    output = succeed_here(sys.executable, 'models.py', '--summary', '--arch', arch)
    rows = [line.split() for line in output.splitlines()]
    assert rows[2] == ['features.0', 'Convolution', *first.split()]
    assert [int(row[-3]) for row in rows if 'Pooling' in row] == pools
    name, *total = rows[-1]
    assert (name, total[0]) == ('total', f'{count:,}')
    assert float(total[1].replace(',', '')) / 1e9 == pytest.approx(multiply_adds, abs=0.0005)


def test_summary_is_the_same_in_every_layout():
    forms = ('--device', 'gpu', '--image-shape', '3,64,64', '--arch', 'xception')
    plain, channels_last = (
        succeed_here(sys.executable, 'models.py', '--summary', *forms, *options).splitlines()[-1]
        for options in ((), ('--conv-layout', 'NHWC', '--input-layout', 'NHWC'))
    )
    assert plain.split() == channels_last.split()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'num_layers': 42}, '--num-layers 42: --arch resnetv15 has 10, 18, 34, 50, 101, 152'),
        ({'arch': 'resnextv15', 'num_layers': 18}, '--num-layers 18: --arch resnextv15 has 50, 101, 152'),
        ({'image_shape': (2, 32, 32)}, '--image-shape 2,32,32: must be CHANNELS,HEIGHT,WIDTH with 3 or 4 channels'),
        ({'image_shape': (3, 32)}, '--image-shape 3,32: must be CHANNELS,HEIGHT,WIDTH'),
        ({'image_shape': (3, 0, 32)}, '--image-shape 3,0,32: --arch resnetv15 needs a height and width of at least 1'),
        ({'arch': 'xception', 'image_shape': (3, 6, 9)}, '--image-shape 3,6,9: .* at least 7'),
        ({'arch': 'resnetv1d', 'image_shape': (3, 17, 16)}, '--image-shape 3,17,16: .* at least 17'),
    ],
)
def test_networks_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_unknown_layout_and_architecture():
    for option, value in (('--conv-layout', 'CHWN'), ('--arch', 'vgg')):
        result = call_here(sys.executable, 'models.py', '--summary', option, value)
        assert_user_error(result, f"argument {option}: invalid choice: '{value}' (choose from")
    assert_user_error(call_here(sys.executable, 'models.py'), 'nothing to do: --summary')
    assert_user_error(call_here(sys.executable, 'models.py', '--summary', '--num-layers', '7'), '--num-layers 7')


def test_misspelt_keyword():
    with pytest.raises(TypeError, match='num_layer'):
        models.get_model(num_layer=18)
