"""calibration.py: int8 graphs, and which layers need float32 most."""

import numpy as np
import pytest

import train
from helpers.networks import random_arrays
from imagenet.checkpoints.parameters import canonical_arrays, set_canonical, write_arrays
from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.common.options import with_changes
from imagenet.inference.calibration import Quantizer, compare_predictions, rank_layers
from imagenet.inference.fused_graph import network_of, relative_difference
from imagenet.runtime.compat import mx
from models import allocate, build_unfused, get_model


@pytest.mark.parametrize(
    'arch',
    [('resnetv15', 18), ('resnetv1c', 18), ('resnetv1d', 50), ('resnetv1s', 18), ('resnextv15', 50), ('xception', 50)],
)
def test_every_layer_in_float32_is_the_network(tmp_path, arch):
    args = network_args(tmp_path, *arch)
    net = build_unfused(args)
    images = mx.nd.random.normal(shape=(4, *args.image_shape))
    quantizer = Quantizer(net, args.calib_mode, [images])
    expected = net(images).asnumpy()

    def difference(in_float32):
        return relative_difference(network_of(*quantizer.quantize(in_float32))(images).asnumpy(), expected)

    assert difference(quantizer.layers) < 1e-4
    assert difference([]) > 1e-3
    assert 'features.0.weight' in quantizer.layers
    assert 'output.weight' in quantizer.layers


def test_averages_of_an_odd_number_of_pixels(tmp_path):
    """A window that has only two of four pixels still divides by two in int8."""
    args = network_args(tmp_path, 'resnetv1d', 18, size=40)
    net = build_unfused(args)
    images = mx.nd.random.normal(shape=(4, *args.image_shape))
    found = network_of(*Quantizer(net, args.calib_mode, [images]).quantize([]))(images)
    # Rounding alone changes the logits by 0.13, and divisions by four would by 0.42.
    assert relative_difference(found.asnumpy(), net(images).asnumpy()) < 0.25


def test_layers_that_matter_come_first(tmp_path):
    """Weights of a channel that is always 0 have no effect, but huge ones leave no int8 levels for the others."""
    args = network_args(tmp_path, 'resnetv15', 18)
    net = build_unfused(args)
    worst = 'features.4.1.body.2.weight'
    arrays = canonical_arrays(net)
    arrays['features.4.1.body.1.gamma'][0] = 0
    arrays['features.4.1.body.1.beta'][0] = -1
    arrays[worst][:, 0] = 100 * arrays[worst].abs().max()
    set_canonical(net, arrays)
    images = [mx.nd.random.normal(shape=(4, *args.image_shape))]
    quantizer = Quantizer(net, args.calib_mode, images)
    assert rank_layers(quantizer, net, images, SilentLog())[0] == worst


class SilentLog:
    def progress(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self):
        pass


def network_args(folder, arch, num_layers, size=64):
    """Write a network's random parameters to a file; return the options that load them."""
    network = {'arch': arch, 'num_layers': num_layers, 'num_classes': 10, 'image_shape': (3, size, size)}
    net = get_model(**network)
    allocate(net, [mx.cpu()])
    set_canonical(net, random_arrays(net))
    write_arrays(folder / 'net.params', canonical_arrays(net))
    args = train.parse_args(['--load', str(folder / 'net.params')])
    return with_changes(args, **network)


def test_comparison():
    expected, found, labels = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 2]), np.array([0, 1, 1, 3])
    quality = compare_predictions(expected, found, labels)
    assert quality == {'examples': 4, 'top1_float32': 0.75, 'top1_int8': 0.5, 'agreement': 0.75}


@pytest.mark.parametrize(('mode', 'load'), [(Mode.CALIBRATE, 'net.params'), (Mode.VAL, 'net-int8')])
def test_int8_on_a_gpu(mode, load):
    args = train.parse_args(['--mode', mode, '--load', load, '--device', 'gpu'])
    with pytest.raises(UserError, match='add --device cpu'):
        train.check_inference_args(args)
