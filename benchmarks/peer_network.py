#!/usr/bin/env python
"""The network that cpu_peers.py measures, as this package has it.

    benchmarks/peer_network.py FOLDER

makes `network.params`, a checkpoint; `network.npz`, the same arrays for those who have no MXNet; and `images.npz`:
images, the network's logits for them, and more images for calibration. No parameter is trivial: a layer that a peer
gets wrong shows in its logits.

    benchmarks/peer_network.py FOLDER --int8 PREFIX

prints how far the logits of a calibrated network, `PREFIX-int8-symbol.json` and `PREFIX-int8.params`, are from those.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from imagenet.checkpoints.parameters import canonical_arrays, canonical_shapes, set_canonical, write_arrays
from imagenet.inference.fused_graph import relative_difference
from imagenet.runtime.compat import mx
from models import get_model, initialize

IMAGE_SHAPE = (3, 224, 224)
NUM_IMAGES, NUM_CALIBRATION_IMAGES = 32, 64
# Half of the running statistics come from the last step: a few steps are enough.
BATCHNORM_MOMENTUM, STATISTICS_STEPS, STATISTICS_BATCH_SIZE = 0.5, 6, 16


def random_images(random, count):
    """As `--data-backend synthetic` makes them."""
    return random.standard_normal((count, *IMAGE_SHAPE)).astype(np.float32)


def random_scale_or_offset(random, name, shape):
    return random.uniform(0.5, 1.5, shape) if name.endswith('gamma') else random.normal(0, 0.1, shape)


def random_network(random):
    """ResNet-50 v1.5: random weights, scales and offsets, and the running statistics that go with them."""
    mx.random.seed(0)
    net = get_model(batchnorm_mom=BATCHNORM_MOMENTUM)
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
        # It is the backward pass that updates running statistics.
        logits.backward()
        mx.nd.waitall()
    return net


def write_network(folder):
    random = np.random.RandomState(0)
    net = random_network(random)
    images = random_images(random, NUM_IMAGES)
    arrays = canonical_arrays(net)
    write_arrays(folder / 'network.params', arrays)
    np.savez(folder / 'network.npz', **{name: array.asnumpy() for name, array in arrays.items()})
    calibration = random_images(random, NUM_CALIBRATION_IMAGES)
    np.savez(folder / 'images.npz', images=images, logits=net(mx.nd.array(images)).asnumpy(), calibration=calibration)


def int8_difference(folder, prefix):
    """The relative difference of the logits of a calibrated network of this package."""
    expected = np.load(folder / 'images.npz')
    net = mx.gluon.SymbolBlock.imports(f'{prefix}-int8-symbol.json', ['data'], f'{prefix}-int8.params')
    return relative_difference(net(mx.nd.array(expected['images'])).asnumpy(), expected['logits'])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--int8', metavar='PREFIX', help='of the files of a calibrated network')
    args = parser.parse_args()
    if args.int8:
        print(int8_difference(args.folder, args.int8))
    else:
        write_network(args.folder)


if __name__ == '__main__':
    main()
