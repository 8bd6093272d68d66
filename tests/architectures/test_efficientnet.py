"""efficientnet.py: the variants' sizes, padding, and what is dropped in training."""

import json

import numpy as np
import pytest

import models
from helpers.networks import make, make_initialized, random_arrays, random_images, relative_difference
from helpers.reference_networks import Reference
from imagenet.architectures.layers import DropConnect
from imagenet.architectures.padding import same_padding
from imagenet.architectures.registry import EFFICIENTNETS, default_image_shape
from imagenet.architectures.summary import layer_table
from imagenet.checkpoints import parameters
from imagenet.runtime.compat import mx

# Trainable parameters, and billions of multiply-adds for the variant's own image size; counted by two independent
# implementations.
SIZES = {
    'b0': (5_288_548, 0.3858),
    'b1': (7_794_184, 0.6868),
    'b2': (9_109_994, 0.9936),
    'b3': (12_233_232, 1.8271),
    'b4': (19_341_616, 4.3938),
    'b5': (30_389_784, 10.2664),
    'b6': (43_040_704, 19.0676),
    'b7': (66_347_960, 37.7459),
    'lite0': (4_652_008, 0.3852),
    'lite1': (5_416_680, 0.6002),
    'lite2': (6_092_072, 0.8597),
    'lite3': (8_197_096, 1.3833),
    'lite4': (13_006_568, 2.5530),
}
# Height and width before each convolution of stride 2 are even, odd, or one of each.
ODD_AND_EVEN = ((64, 64), (75, 75), (49, 38), (44, 51))


@pytest.mark.parametrize(('variant', 'count', 'multiply_adds'), [(name, *size) for name, size in SIZES.items()])
def test_sizes(variant, count, multiply_adds):
    arch = f'efficientnet_{variant}'
    rows = layer_table(models.get_model(arch), default_image_shape(arch))
    assert sum(row.parameters for row in rows) == count
    assert sum(row.multiply_adds for row in rows) / 1e9 == pytest.approx(multiply_adds, rel=1e-3)


@pytest.mark.parametrize('variant', ['b1', 'lite1'])
def test_depth_repeats_blocks(variant):
    """Lite has one block in its first and its last stage, whatever the depth."""
    net = models.get_model(f'efficientnet_{variant}')
    blocks = [len(net.features[index]._children) for index in range(3, 10)]
    assert blocks == ([2, 3, 3, 4, 4, 5, 2] if variant == 'b1' else [1, 3, 3, 4, 4, 5, 1])


@pytest.mark.parametrize(
    ('length', 'kernel_size', 'stride', 'padding'),
    [
        (224, 3, 2, (0, 1)),
        (75, 3, 2, (1, 1)),
        (56, 5, 2, (1, 2)),
        (15, 5, 2, (2, 2)),
        (14, 3, 1, (1, 1)),
        (14, 5, 1, (2, 2)),
        (1, 5, 2, (2, 2)),
    ],
)
def test_same_padding(length, kernel_size, stride, padding):
    assert same_padding(length, kernel_size, stride) == padding


@pytest.mark.parametrize('size', ODD_AND_EVEN)
@pytest.mark.parametrize('arch', ['efficientnet_b0', 'efficientnet_lite0'])
def test_network_with_same_padding(arch, size):
    net = make(arch=arch, padding='same', image_shape=(3, *size))
    arrays = random_arrays(net)
    parameters.set_canonical(net, arrays)
    images = mx.nd.array(np.random.RandomState(1).standard_normal((2, 3, *size)))
    found = net(images)
    assert relative_difference(found, Reference(arrays, 'same').logits(images, arch)) < 1e-4
    is_symmetric = all(length % 32 == 1 for length in size)
    assert is_symmetric or relative_difference(found, Reference(arrays).logits(images, arch)) > 1e-3


@pytest.mark.parametrize('hybrid', [False, True])
def test_network_with_same_padding_changes_its_size(hybrid):
    """Images that grow in training need other paddings."""
    settings = {'arch': 'efficientnet_lite0', 'padding': 'same'}
    net = make(**settings, image_shape=(3, 64, 64))
    arrays = random_arrays(net)
    parameters.set_canonical(net, arrays)
    if hybrid:
        net.hybridize(static_alloc=True, static_shape=True)
    for size in ((75, 75), (49, 38), (64, 64)):
        net.take_paddings(models.get_model(**settings, num_classes=10, image_shape=(3, *size)))
        if hybrid:
            net.hybridize(static_alloc=True, static_shape=True)
        assert net.image_size == size
        images = mx.nd.array(np.random.RandomState(1).standard_normal((2, 3, *size)))
        expected = Reference(arrays, 'same').logits(images, 'efficientnet_lite0')
        assert relative_difference(net(images), expected) < 1e-4


def drop_rates(net):
    """Return the rate at which each block's branch is dropped; blocks that never drop it are left out."""
    nodes = json.loads(net(mx.sym.var('data')).tojson())['nodes']
    return [float(node['attrs']['p']) for node in nodes if node['op'] == 'Dropout' and node['attrs'].get('axes')]


def test_drop_connect_grows_with_depth():
    """Of B0's 16 blocks, 7 change the shape, and have no shortcut that could stand for the branch."""
    rates = drop_rates(models.get_model('efficientnet_b0'))
    assert rates == pytest.approx([0.2 * index / 16 for index in (2, 4, 6, 7, 9, 10, 12, 13, 14)])
    assert drop_rates(models.get_model('efficientnet_b0', drop_connect=0)) == []
    assert drop_rates(models.get_model('resnetv15', num_layers=18)) == []
    for arch in ('resnetv15', 'resnetv1d'):
        rates = drop_rates(models.get_model(arch, num_layers=18, drop_connect=0.4))
        assert rates == pytest.approx([0.4 * index / 8 for index in range(1, 8)])
    assert len(drop_rates(models.get_model('xception', drop_connect=0.1))) == 11


def test_drop_connect_drops_complete_examples():
    block = DropConnect(0.25)
    block.hybridize()
    images = mx.nd.random.uniform(1, 2, (2000, 3, 4, 4))
    with mx.autograd.record():
        dropped = block(images).asnumpy()
    shares = (dropped / images.asnumpy()).reshape(2000, -1)
    np.testing.assert_allclose(shares, np.broadcast_to(shares[:, :1], shares.shape), rtol=1e-5)
    is_kept = shares[:, 0] > 0
    np.testing.assert_allclose(shares[is_kept], 1 / 0.75, rtol=1e-5)
    # Five standard deviations.
    assert is_kept.mean() == pytest.approx(0.75, abs=0.05)
    np.testing.assert_array_equal(block(images).asnumpy(), images.asnumpy())


def test_training_differs_from_inference_only_by_what_is_dropped():
    images = random_images(size=64)
    outputs = {}
    for rate in (0, 0.9):
        net = make(arch='efficientnet_lite0', image_shape=(3, 64, 64), drop_connect=rate, dropout=rate)
        parameters.set_canonical(net, random_arrays(net))
        mx.random.seed(1)
        with mx.autograd.record(train_mode=True):
            outputs[rate, 'training'] = net(images)
        parameters.set_canonical(net, random_arrays(net))
        outputs[rate, 'inference'] = net(images)
    assert relative_difference(outputs[0.9, 'inference'], outputs[0, 'inference']) == 0
    assert relative_difference(outputs[0.9, 'training'], outputs[0, 'training']) > 0.1


def test_initial_values_follow_the_recipe():
    """EfficientNet's authors use the number of outputs, and a uniform distribution in the dense layer."""
    net = make_initialized(arch='efficientnet_b0', num_classes=1000)
    for name, param in parameters.named_parameters(net).items():
        value = param.data().asnumpy()
        if name.endswith('weight') and value.ndim == 4:
            fan_out = np.prod(value.shape[2:]) * (1 if value.shape[1] == 1 else value.shape[0])
            # The smallest weight has 256 values.
            assert value.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.25), name
        elif name.endswith('weight'):
            assert abs(value).max() == pytest.approx(1000**-0.5, rel=0.01)
            assert value.std() == pytest.approx(1000**-0.5 / np.sqrt(3), rel=0.05)
        else:
            assert (value == (1 if name.endswith(('gamma', 'running_var')) else 0)).all(), name


def test_few_classes_start_with_the_weights_of_many():
    """By the number of outputs, ten classes would start with logits ten times as large."""
    weight = make_initialized(arch='efficientnet_b0', num_classes=10).output.weight.data().asnumpy()
    assert abs(weight).max() == pytest.approx(1000**-0.5, rel=0.01)


def test_defaults_are_the_architecture_s():
    net = models.get_model('efficientnet_b5')
    nodes = json.loads(net(mx.sym.var('data')).tojson())['nodes']
    norms = [node['attrs'] for node in nodes if node['op'] == 'BatchNorm']
    assert {(float(attrs['eps']), float(attrs['momentum'])) for attrs in norms} == {(1e-3, 0.99)}
    (dropout,) = [node for node in nodes if node['op'] == 'Dropout' and not node['attrs'].get('axes')]
    assert float(dropout['attrs']['p']) == EFFICIENTNETS['b5'].dropout == 0.4
