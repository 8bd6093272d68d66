"""fused_graph.py: a fused graph computes the same as the plain network."""

import json
from collections import Counter

import numpy as np
import pytest

from helpers.networks import random_arrays
from imagenet.checkpoints.parameters import canonical_arrays, set_canonical, write_arrays
from imagenet.common.options import with_changes, with_defaults
from imagenet.inference import fused_graph
from imagenet.inference.fused_graph import fuse, inference_graph, relative_difference, with_swish_operators
from imagenet.runtime.compat import mx
from models import allocate, get_model, model_options, plain_network
from train import parse_args

BLOCKS_OF_B0 = 16


def options(path, **changes):
    network = {'num_layers': 18, 'num_classes': 10, 'image_shape': (3, 64, 64), 'input_layout': 'NHWC'}
    args = with_defaults(parse_args(['--load', str(path), '--fuse-bn-relu', '1']), {'arch': 'resnetv15'})
    return with_changes(args, **{**network, **changes})


def saved_network(path, **changes):
    """Return a plain network with random parameters and running statistics, and write its file."""
    net = get_model(**model_options(with_changes(options(path, **changes), device='cpu')))
    allocate(net, [mx.cpu()])
    set_canonical(net, random_arrays(net))
    write_arrays(path, canonical_arrays(net))
    return net


@pytest.mark.parametrize(
    'changes',
    [
        {},
        # The last convolutions see a single pixel.
        {'image_shape': (3, 32, 32)},
        {'input_layout': 'NCHW', 'image_shape': (4, 48, 32)},
        {'num_layers': 50},
        {'arch': 'resnetv1c'},
        {'arch': 'resnetv1d', 'num_layers': 50, 'image_shape': (3, 63, 47)},
        # The average poolings see an odd number of pixels.
        {'arch': 'resnetv1d', 'image_shape': (3, 75, 65)},
        {'arch': 'resnetv1s', 'num_layers': 50},
        {'arch': 'resnextv15', 'num_layers': 50},
        {'arch': 'xception'},
        {'arch': 'efficientnet_b0'},
        {'arch': 'efficientnet_b0', 'padding': 'same', 'image_shape': (3, 48, 63)},
        {'arch': 'efficientnet_lite0', 'padding': 'same'},
        {'conv_layout': 'NHWC', 'batchnorm_layout': 'NHWC', 'pooling_layout': 'NHWC'},
    ],
)
def test_fused_graph_computes_the_same(tmp_path, changes):
    path = tmp_path / 'net.params'
    plain = saved_network(path, **changes)
    args = options(path, **changes)
    unfused = plain_network(args)
    net, note = fuse(unfused)
    assert note is None
    for batch_size in (1, 7, 3):
        images = mx.nd.random.normal(shape=(batch_size, *unfused.images.shape[1:]))
        logits = net(images)
        assert relative_difference(logits.asnumpy(), plain(images).asnumpy()) < 1e-4
        # Other operators can use the result.
        np.testing.assert_allclose(mx.nd.softmax(logits).sum(axis=1).asnumpy(), 1, rtol=1e-5)


def test_fused_graph_that_computes_something_else_is_not_used(tmp_path, monkeypatch):
    """No fused graph meets a tolerance of 0."""
    path = tmp_path / 'net.params'
    saved_network(path)
    monkeypatch.setattr(fused_graph, 'TOLERANCE', 0)
    net, note = fuse(plain_network(options(path)))
    assert net is None
    assert 'using the plain network' in note


def operators(symbol):
    """Return how often a graph has each operator."""
    return Counter(node['op'] for node in json.loads(symbol.tojson())['nodes'])


def test_swish_is_one_operator(tmp_path):
    args = options(tmp_path / 'net.params', arch='efficientnet_b0')
    net = saved_network(args.load.path, arch='efficientnet_b0')
    symbol, _ = inference_graph(net, (1, 64, 64, 3))
    assert 'elemwise_mul' in operators(symbol)
    found = operators(with_swish_operators(symbol))
    assert 'elemwise_mul' not in found
    # Squeeze-and-excitation keeps its own.
    assert found['Activation'] == BLOCKS_OF_B0
