"""Networks with random values in every parameter, for the tests of models.py and checkpoints."""

import numpy as np

import models
from imagenet.checkpoints import parameters
from imagenet.runtime.compat import mx

# Every architecture, with each kind of block.
NETWORKS = [
    ('resnetv1', 18),
    ('resnetv15', 10),
    ('resnetv1', 50),
    ('resnetv15', 34),
    ('resnetv15', 50),
    ('resnetv1c', 50),
    ('resnetv1d', 18),
    ('resnetv1d', 50),
    # With basic blocks, the first stage has a projection, too.
    ('resnetv1s', 18),
    ('resnextv1', 50),
    ('resnextv15', 50),
    ('xception', 50),
    ('efficientnet_b0', 50),
    ('efficientnet_lite0', 50),
]
CHANNELS_LAST = {f'{name}_layout': 'NHWC' for name in ('input', 'conv', 'batchnorm', 'pooling')}


def make(**settings):
    """Return a network with weights of 0, to be set by the caller."""
    settings = {'num_layers': 18, 'num_classes': 10, 'image_shape': (3, 32, 32), **settings}
    net = models.get_model(**settings)
    models.allocate(net, [mx.cpu()])
    return net


def make_initialized(**settings):
    """Return a network with the recipe's initial values."""
    net = make(**settings)
    models.initialize(net, [mx.cpu()])
    return net


def random_arrays(net, seed=0):
    """Return canonical arrays that give logits of a typical size. No gamma is 0; no statistics have initial values."""
    random = np.random.Generator(np.random.SFC64(seed))
    arrays = {}
    for name, shape in parameters.canonical_shapes(net).items():
        if name.endswith('weight'):
            values = random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        elif name.endswith(('gamma', 'running_var')):
            values = random.uniform(0.5, 1.5, shape)
        else:
            values = random.uniform(-0.2, 0.2, shape)
        arrays[name] = mx.nd.array(values)
    return arrays


def random_images(count=2, size=32, seed=1):
    return mx.nd.array(np.random.RandomState(seed).standard_normal((count, 3, size, size)))


def as_input(images, net):
    """Return images `(N, 3, H, W)` in the layout and with the number of channels that a network expects."""
    if net.input_channels == 4:
        images = mx.nd.concat(images, mx.nd.zeros((images.shape[0], 1, *images.shape[2:])), dim=1)
    return images if net.input_layout == 'NCHW' else images.transpose((0, 2, 3, 1))


def relative_difference(found, expected):
    return float(((found - expected).norm() / expected.norm()).asscalar())
