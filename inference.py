"""The network for inference: on a CPU, one graph whose convolutions take batch norm, addition and ReLU with them.

oneDNN fuses what is written with separate operators (`optimize_for`), so a network that trains with fused blocks is
built anew for inference; the parameters on disk are the same.
"""

import numpy as np

from checkpoint import load_parameters
from compat import mx
from models import get_model, initialize

# Of the logits' norm: float32 in another order differs by some 1e-6 of it.
TOLERANCE = 1e-3
CHECKED_IMAGES = 2


def add_inference_args(parser):
    group = parser.add_argument_group('Inference')
    group.add_argument(
        '--no-fuse',
        action='store_true',
        help='compute --mode val and pred with the network as it is, and not as a fused graph (default on a CPU)',
    )
    return group


def build_fused(args):
    """The network of `args` on the CPU as a fused graph, once its logits have been compared with the plain network's.

    Returns:
        (network, None), or (the plain network, a line about why it is not fused).

    Raises:
        UserError: `--load` does not fit.
    """
    separate = {'fuse_bn_relu': 0, 'fuse_bn_add_relu': 0}
    net = get_model(**{**vars(args), **separate})
    initialize(net, [mx.cpu()])
    if args.load is not None:
        load_parameters(net, args.load)
    images = example_images(args)
    expected = net(images).asnumpy()
    try:
        # Not with static shapes: what comes out is then sometimes in oneDNN's own format, which operators outside
        # of the graph cannot read.
        net.optimize_for(images, backend='MKLDNN', static_alloc=True)
        difference = relative_difference(net(images).asnumpy(), expected)
    except mx.base.MXNetError:
        return None, 'MXNet cannot fuse this network: it is computed as it is'
    if not difference < TOLERANCE:
        return None, f'the fused network differs by {difference:.2g} of the logits: it is computed as it is'
    return net, None


def example_images(args):
    """Some random images as the network takes them; always the same."""
    channels, height, width = args.image_shape
    shape = (CHECKED_IMAGES, channels, height, width)
    if args.input_layout == 'NHWC':
        shape = (CHECKED_IMAGES, height, width, channels)
    return mx.nd.array(np.random.RandomState(0).standard_normal(shape), dtype='float32')


def relative_difference(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
