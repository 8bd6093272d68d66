"""The table of layers that `models.py --summary` prints."""

import json
from collections import namedtuple

import numpy as np
from tabulate import tabulate

from imagenet.checkpoints.parameters import named_parameters
from imagenet.runtime.compat import mx

# The operators that pad the weight of a convolution.
PADDING = ('Pad', 'Reshape')
SummaryRow = namedtuple('SummaryRow', 'name operator output_shape parameters multiply_adds')


def layer_table(net, image_shape):
    """Return a `SummaryRow` for every operator that has parameters or pools, for one image.

    Multiply-adds are counted only for convolutions and the dense layer.
    """
    canonical = {param.name: name for name, param in named_parameters(net).items()}
    sizes = {
        param.name: int(np.prod(param.shape)) for param in named_parameters(net).values() if param.grad_req != 'null'
    }
    shape = image_shape if net.input_layout == 'NCHW' else (*image_shape[1:], image_shape[0])
    internals = net(mx.sym.var('data')).get_internals()
    _, output_shapes, _ = internals.infer_shape(data=(1, *shape))
    shapes = dict(zip(internals.list_outputs(), output_shapes))
    nodes = json.loads(internals.tojson())['nodes']
    rows = []
    for node in nodes:
        sources = [_behind_padding(nodes, index)['name'] for index, *_ in node['inputs']]
        params = [name for name in sources if name in canonical]
        if node['op'] in PADDING or not (params or node['op'] == 'Pooling'):
            continue
        output_shape = next(
            shapes[name] for name in (f'{node["name"]}_output', f'{node["name"]}_output0') if name in shapes
        )
        multiply_adds = 0
        if node['op'] in ('Convolution', 'FullyConnected'):
            channels = shapes[params[0]][0]
            multiply_adds = sizes[params[0]] // channels * int(np.prod(output_shape))
        name = canonical[params[0]].rsplit('.', 1)[0] if params else ''
        parameters = sum(sizes.get(param, 0) for param in params)
        rows.append(SummaryRow(name, node['op'], output_shape, parameters, multiply_adds))
    return rows


def _behind_padding(nodes, index):
    """Return the node at an index, or the weight that is padded there."""
    while nodes[index]['op'] in PADDING:
        index = nodes[index]['inputs'][0][0]
    return nodes[index]


def format_layer_table(rows):
    total = ('total', '', '', sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))
    table = [
        (name, operator, ' x '.join(map(str, shape)), f'{parameters:,}', f'{multiply_adds:,}')
        for name, operator, shape, parameters, multiply_adds in [*rows, total]
    ]
    headers = ('layer', 'operator', 'output', 'parameters', 'multiply-adds')
    return tabulate(table, headers, colalign=('left', 'left', 'left', 'right', 'right'), disable_numparse=True)
