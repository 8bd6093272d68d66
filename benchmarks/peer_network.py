#!/usr/bin/env python
"""The network that cpu_peers.py measures, built with this package.

    benchmarks/peer_network.py FOLDER --arch ARCH

writes `network.params`, a checkpoint; `network.npz`, the same arrays for programs without MXNet; `network.json`, its
architecture and multiply-adds; and `images.npz`: images, the network's logits for them, and more images for
calibration. No parameter is trivial, so a layer that a peer gets wrong shows in its logits.

    benchmarks/peer_network.py FOLDER --int8 PREFIX

prints the relative difference of these logits from those of a calibrated network, `PREFIX-int8-symbol.json` and
`PREFIX-int8.params`.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from imagenet.architectures.summary import layer_table
from imagenet.checkpoints.parameters import canonical_arrays, canonical_shapes, set_canonical, write_arrays
from imagenet.inference.fused_graph import relative_difference
from imagenet.runtime.compat import mx
from models import get_model, initialize

IMAGE_SHAPE = (3, 224, 224)
NUM_IMAGES, NUM_CALIBRATION_IMAGES = 32, 64
# The last step contributes half of the running statistics, so a few steps are enough.
BATCHNORM_MOMENTUM, STATISTICS_STEPS, STATISTICS_BATCH_SIZE = 0.5, 6, 16


def random_images(random, count):
    """Return images like those of `--data-backend synthetic`."""
    return random.standard_normal((count, *IMAGE_SHAPE)).astype(np.float32)


def random_scale_or_offset(random, name, shape):
    return random.uniform(0.5, 1.5, shape) if name.endswith('gamma') else random.normal(0, 0.1, shape)


def random_network(arch, random):
    """Return a network with random weights, scales and offsets, and matching running statistics."""
    mx.random.seed(0)
    net = get_model(arch, batchnorm_mom=BATCHNORM_MOMENTUM, drop_connect=0, dropout=0)
    initialize(net, [mx.cpu()])
    drawn = {
        name: mx.nd.array(random_scale_or_offset(random, name, shape))
        for name, shape in canonical_shapes(net).items()
        if name.endswith(('gamma', 'beta'))
    }
    set_canonical(net, drawn)
    net.hybridize()
    for _ in range(STATISTICS_STEPS):
        with mx.autograd.record():
            logits = net(mx.nd.array(random_images(random, STATISTICS_BATCH_SIZE)))
        # The backward pass updates the running statistics.
        logits.backward()
        mx.nd.waitall()
    return net


def write_network(arch, folder):
    random = np.random.RandomState(0)
    net = random_network(arch, random)
    images = random_images(random, NUM_IMAGES)
    arrays = canonical_arrays(net)
    multiply_adds = sum(row.multiply_adds for row in layer_table(net, IMAGE_SHAPE))
    (folder / 'network.json').write_text(json.dumps({'arch': arch, 'multiply_adds': multiply_adds}))
    write_arrays(folder / 'network.params', arrays)
    np.savez(folder / 'network.npz', **{name: array.asnumpy() for name, array in arrays.items()})
    calibration = random_images(random, NUM_CALIBRATION_IMAGES)
    np.savez(folder / 'images.npz', images=images, logits=net(mx.nd.array(images)).asnumpy(), calibration=calibration)


def int8_difference(folder, prefix):
    """Return the relative difference of the logits of a network that this package calibrated."""
    expected = np.load(folder / 'images.npz')
    net = mx.gluon.SymbolBlock.imports(f'{prefix}-int8-symbol.json', ['data'], f'{prefix}-int8.params')
    return relative_difference(net(mx.nd.array(expected['images'])).asnumpy(), expected['logits'])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--arch', default='resnetv15', help='the architecture (default: %(default)s)')
    parser.add_argument('--int8', metavar='PREFIX', help='start of the file names of a calibrated network')
    args = parser.parse_args()
    if args.int8:
        print(int8_difference(args.folder, args.int8))
    else:
        write_network(args.arch, args.folder)


if __name__ == '__main__':
    main()
