"""The network for inference: a fused graph on a CPU, an int8 network, or the network as it is.

In a fused graph, convolutions take batch norm, addition and ReLU with them. oneDNN fuses what is written with separate
operators (`optimize_for`), so a network that trains with fused blocks is built again for inference; the parameters on
disk are the same. An int8 network is a graph with parameters of its own, which calibration.py makes.
"""

from pathlib import Path

import numpy as np

from imagenet.runtime.compat import mx

# Of the logits' norm: float32 in another order differs by some 1e-6 of it.
TOLERANCE = 1e-3
CHECKED_IMAGES = 2
# The second one works with what the first has left.
CHECKED_CALLS = 2


def add_inference_args(parser):
    group = parser.add_argument_group('Inference')
    group.add_argument(
        '--no-fuse',
        action='store_true',
        help='compute --mode val and pred with the network as it is, and not as a fused graph (default on a CPU)',
    )
    group.add_argument(
        '-o',
        '--output',
        type=Path,
        help='where --mode pred writes what it finds, .csv or .json (default: only print it); for --mode calibrate and '
        'export, what the names of their files begin with (default: the name of --load without its ending)',
    )
    return group


def fuse(net, images):
    """A network on the CPU as a fused graph, once its logits have been compared with the network's own.

    Args:
        net: the network in float32, written with separate operators.
        images: some images as it takes them, to compare with.

    Returns:
        (network, None), or (None, a line about why it is not fused).
    """
    expected = net(images).asnumpy()
    symbol, arrays = inference_graph(net, images.shape)
    fused = network_of(symbol.get_backend_symbol('MKLDNN'), arrays)
    for _ in range(CHECKED_CALLS):
        difference = relative_difference(fused(images).asnumpy(), expected)
    if not difference < TOLERANCE:
        return None, f'the fused network differs by {difference:.2g} of the logits: it is computed as it is'
    return fused, None


def example_images(image_shape, input_layout):
    """Some random images as the network takes them; always the same.

    Args:
        image_shape: `(C, H, W)`, whatever the layout.
    """
    channels, height, width = image_shape
    shape = (CHECKED_IMAGES, channels, height, width)
    if input_layout == 'NHWC':
        shape = (CHECKED_IMAGES, height, width, channels)
    return mx.nd.array(np.random.RandomState(0).standard_normal(shape), dtype='float32')


def relative_difference(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def inference_graph(net, input_shape):
    """A float32 network's graph on the variable `data`, and its parameters by the names that they have there.

    It is the network without what cannot run from call to call in oneDNN's own formats: the cast to float32 at its end,
    and the pooling of a single pixel, where that is all that small images leave.
    """
    symbol = net(mx.sym.var('data')).get_children()
    pixels = symbol.get_children()[0].get_children()
    _, (shape,), _ = pixels.infer_shape(data=input_shape)
    if shape[2:] == (1, 1):
        symbol = net.output(pixels)
    return symbol, arrays_in_graph(net)


def arrays_in_graph(net):
    """A network's parameters by the names that they have in its graph."""
    return {param.name: param.data() for param in net.collect_params().values()}


def network_of(symbol, arrays):
    """A graph on the variable `data` as a network.

    Args:
        arrays: its parameters by name; others are left out of account.
    """
    net = mx.gluon.SymbolBlock(symbol, [mx.sym.var('data', dtype='float32')])
    for name, param in net.collect_params().items():
        param.shape, param.dtype = arrays[name].shape, arrays[name].dtype
        # Of any precision, int8 too, which MXNet has no random numbers of.
        param.initialize(init=mx.init.Zero(), ctx=mx.cpu())
        param.set_data(arrays[name])
    # With static shapes: without, oneDNN's primitives are made again in each call, which takes longer than an image.
    net.hybridize(static_alloc=True, static_shape=True)
    return net
