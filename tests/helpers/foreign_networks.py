"""Networks of other packages: names and shapes of their arrays, and the logits that these packages compute.

tests/data/foreign_networks.json.gz was made with MXNet 1.9.1, GluonCV 0.10.5, torchvision and timm. A layer is `NAME
SHAPE` for a weight, `NAME SHAPE b` for a weight and a bias, `NAME CHANNELS n` for a batch norm. The logits are those
for `drawn_images`, of a network with `drawn_arrays`.
"""

import gzip
import json
import math

import numpy as np

from helpers.commands import PROJECT

NETWORKS = json.loads(gzip.decompress((PROJECT / 'tests' / 'data' / 'foreign_networks.json.gz').read_bytes()))
MXNET_NORM = ('gamma', 'beta', 'running_mean', 'running_var')
PYTORCH_NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
MODULE_NORM = ('gamma', 'beta', 'moving_mean', 'moving_var')
# By package: between the name of a layer and those of its arrays, and the arrays of a batch norm.
NAMES = {
    'mxnet_zoo': ('.', MXNET_NORM),
    'gluoncv': ('.', MXNET_NORM),
    'torchvision': ('.', PYTORCH_NORM),
    'timm': ('.', PYTORCH_NORM),
    'module': ('_', MODULE_NORM),
}
SIDE = 64


def array_shapes(key):
    """Return the shape of each array of a network by name."""
    separator, norm = NAMES[key.split('/')[0]]
    found = {}
    for layer in NETWORKS[key]['layers']:
        name, shape, *kind = layer.split()
        shape = tuple(map(int, shape.split('x')))
        if kind == ['n']:
            leaves = {leaf: () if leaf == 'num_batches_tracked' else shape for leaf in norm}
        else:
            leaves = {'weight': shape, **({'bias': shape[:1]} if kind == ['b'] else {})}
        found.update({f'{name}{separator}{leaf}': shape for leaf, shape in leaves.items()})
    return found


def drawn_arrays(key):
    """Return the values of a network's arrays by name, with which its logits were computed."""
    return draw_arrays(array_shapes(key), NETWORKS[key]['variance'])


def draw_arrays(shapes, variance):
    """Return values for arrays of these shapes, by name.

    Args:
        variance: the mean of running variances. With 1, the values of deep residual networks grow until biases have no
            effect on the logits.
    """
    names = enumerate(sorted(shapes))
    return {name: _drawn(name, shapes[name], np.random.RandomState(i), variance) for i, name in names}


def _drawn(name, shape, random, variance):
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    if len(shape) > 1:
        values = random.standard_normal(shape) * math.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith(('running_var', 'moving_var')):
        values = random.uniform(0.5, 1.5, shape) * variance
    elif name.endswith(('gamma', 'weight')):
        values = random.uniform(0.5, 1.5, shape)
    else:
        values = random.standard_normal(shape) * 0.1
    return values.astype(np.float32)


def drawn_images():
    """Return one image, (1, 3, SIDE, SIDE)."""
    c, h, w = np.meshgrid(np.arange(3), np.arange(SIDE), np.arange(SIDE), indexing='ij')
    return (np.sin(0.05 * (h + 1) * (c + 1) / 3) * np.cos(0.03 * (w + 1))).astype(np.float32)[np.newaxis]
