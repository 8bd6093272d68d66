"""Networks for inference: a fused graph on a CPU, an int8 network, or the plain network.

In a fused graph, convolutions include batch norm, addition and ReLU. oneDNN fuses separate operators
(`get_backend_symbol`), so a network that trains with fused blocks is built again for inference; the parameters on disk
are the same. An int8 network is a graph with quantized parameters, made by calibration.py.
"""

import json
from pathlib import Path

import numpy as np

from imagenet.runtime.compat import mx

# Relative to the logits' norm: float32 sums in a different order differ by about 1e-6.
TOLERANCE = 1e-3
CHECKED_IMAGES = 2
# The second call uses what the first one left behind.
CHECKED_CALLS = 2


def add_inference_args(parser):
    group = parser.add_argument_group('Inference')
    group.add_argument(
        '--no-fuse',
        action='store_true',
        help='run --mode val and pred with the plain network instead of a fused graph (the default on a CPU)',
    )
    group.add_argument(
        '-o',
        '--output',
        type=Path,
        help='file for the results of --mode pred, .csv or .json (default: only print them); a run that was stopped '
        'resumes from FILE.partial. For --mode val, a .csv file for the result of each record or, for many networks, a '
        '.csv or .md file for the table (default: none). For --mode calibrate and export, the start of the file names '
        '(default: the name of --load without its extension)',
    )
    return group


class PlainNetwork:
    """A float32 network on the CPU with separate operators, from which other networks are made.

    Args:
        net: the network, also an attribute.
        images: some images in its input form, also an attribute.

    Attributes:
        logits: its logits for the images, with which those of the other networks are compared.
    """

    def __init__(self, net, images):
        self.net = net
        self.images = images
        self.logits = net(images).asnumpy()


def fuse(plain):
    """Return a `PlainNetwork` as a fused graph, if its logits agree.

    Returns:
        (network, None), or (None, a line that explains why it is not fused).
    """
    symbol, arrays = inference_graph(plain.net, plain.images.shape)
    fused = network_of(with_swish_operators(symbol).get_backend_symbol('MKLDNN'), arrays)
    for _ in range(CHECKED_CALLS):
        difference = relative_difference(fused(plain.images).asnumpy(), plain.logits)
    if not difference < TOLERANCE:
        return None, f'the fused graph changes the logits by {difference:.2g} of their norm: using the plain network'
    return fused, None


def example_images(image_shape, input_layout):
    """Return some random images in the network's input form, always the same ones.

    Args:
        image_shape: `(C, H, W)`, regardless of the layout.
    """
    channels, height, width = image_shape
    shape = (CHECKED_IMAGES, channels, height, width)
    if input_layout == 'NHWC':
        shape = (CHECKED_IMAGES, height, width, channels)
    return mx.nd.array(np.random.RandomState(0).standard_normal(shape), dtype='float32')


def relative_difference(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def inference_graph(net, input_shape):
    """Return a float32 network's graph on the variable `data`, and its parameters by their names in the graph.

    The graph leaves out operators that cannot run from call to call in oneDNN's own formats: the final cast to float32,
    and the pooling if small images leave only a single pixel, for which flattening can stand. Weights that the network
    pads are already padded.
    """
    symbol = net(mx.sym.var('data')).get_children()
    pixels = symbol.get_children()[0].get_children()
    _, (shape,), _ = pixels.infer_shape(data=input_shape)
    if shape[2:] == (1, 1):
        symbol = net.output(mx.sym.Flatten(pixels, name='flatten'))
    return with_padded_weights(symbol, arrays_in_graph(net))


def with_padded_weights(symbol, arrays):
    """Return a graph without operators that pad a weight, and the arrays with padded weights in their place."""
    graph = json.loads(symbol.tojson())
    nodes, arrays, weights = graph['nodes'], dict(arrays), {}
    for index, node in enumerate(nodes):
        if node['op'] == 'Pad' and nodes[node['inputs'][0][0]]['name'] in arrays:
            weights[index] = node['inputs'][0][0]
            weight = nodes[weights[index]]
            arrays[weight['name']] = mx.nd.Pad(arrays[weight['name']], **node['attrs'])
            del weight['attrs']['__shape__']
    for node in nodes:
        node['inputs'] = [[weights.get(index, index), *rest] for index, *rest in node['inputs']]
    return mx.sym.load_json(json.dumps(graph)), arrays


def with_swish_operators(symbol):
    """Return a graph that computes each x * sigmoid(x) with one oneDNN operator.

    MXNet's product is not oneDNN's, and would convert both factors to plain memory first, and its result back. oneDNN's
    backward pass of softrelu multiplies a gradient by the derivative, which is sigmoid(x): with x as the gradient, this
    is swish. It has no gradient itself, but MXNet asks for one unless it is blocked.
    """
    graph = json.loads(symbol.tojson())
    nodes = graph['nodes']
    for node in nodes:
        if node['op'] != 'elemwise_mul':
            continue
        x, gate = node['inputs']
        sigmoid = nodes[gate[0]]
        if sigmoid['op'] == 'Activation' and sigmoid['attrs']['act_type'] == 'sigmoid' and sigmoid['inputs'] == [x]:
            # Its inputs are the gradient, the output, which it does not read, and the input.
            sigmoid.update(op='_backward_Activation', attrs={'act_type': 'softrelu'}, inputs=[x, x, x])
            node.update(op='BlockGrad', attrs={}, inputs=[gate])
    return mx.sym.load_json(json.dumps(graph))


def arrays_in_graph(net):
    """Return a network's parameters by their names in its graph."""
    return {param.name: param.data() for param in net.collect_params().values()}


def network_of(symbol, arrays):
    """Return a graph on the variable `data` as a network.

    Args:
        arrays: its parameters by name; other arrays are ignored.
    """
    net = mx.gluon.SymbolBlock(symbol, [mx.sym.var('data', dtype='float32')])
    for name, param in net.collect_params().items():
        param.shape, param.dtype = arrays[name].shape, arrays[name].dtype
        # Zeros work for every type, including int8, for which MXNet has no random numbers.
        param.initialize(init=mx.init.Zero(), ctx=mx.cpu())
        param.set_data(arrays[name])
    # Without static shapes, oneDNN's primitives are created again in each call, which takes longer than an image.
    net.hybridize(static_alloc=True, static_shape=True)
    return net
