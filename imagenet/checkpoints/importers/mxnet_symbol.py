"""Parameters of a symbol: `prefix-symbol.json` and `prefix-0000.params`.

The graph of a residual network of another package shows where each parameter belongs. That of a network of this package
or its original has its layers in the same order as the network that they are loaded into.
"""

import json
from pathlib import Path

from imagenet.checkpoints.parameters import named_parameters
from imagenet.checkpoints.symbol_file import read_symbol
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

# Learned parameters, and running statistics.
KINDS = ('arg:', 'aux:')


def is_symbol(names):
    """Return whether a file's arrays are the parameters of a symbol."""
    return all(name.startswith(KINDS) for name in names)


def read_symbol_of(path):
    """Return the content of the symbol that belongs to a file of parameters.

    Raises:
        UserError: the symbol's file is missing or damaged.
    """
    symbol_path = _symbol_path(path)
    return read_symbol(symbol_path, f"--load {path}: a symbol's parameters also need {symbol_path}")


def _symbol_path(path):
    return Path(f'{str(path)[: str(path).rfind("-")]}-symbol.json')


def without_kinds(arrays):
    return {name.split(':', 1)[1]: array for name, array in arrays.items()}


def match_symbol(arrays, net, path):
    """Return a symbol's arrays under canonical names.

    Raises:
        UserError: the symbol file is missing, or belongs to another network.
    """
    theirs = _parameters_in_graph_order(read_symbol_of(path), set(arrays))
    canonical = {param.name: name for name, param in named_parameters(net).items()}
    ours = _parameters_in_graph_order(json.loads(net(mx.sym.var('data')).tojson()), set(canonical))
    if [len(layer) for layer in theirs] != [len(layer) for layer in ours]:
        raise UserError(
            f'--load {path}: parameters of another network: {_symbol_path(path)} has {len(theirs)} layers with '
            f'parameters, --arch and --num-layers give {len(ours)}'
        )
    return {
        canonical[our_name]: arrays[their_name]
        for our_layer, their_layer in zip(ours, theirs)
        for our_name, their_name in zip(our_layer, their_layer)
    }


def _parameters_in_graph_order(graph, names):
    """Return the names of each operator's parameters, as a list of lists.

    Operators are in the order in which the graph first reaches one of their parameters. Unlike the order of the
    operators themselves, this order is the same for fused and separate operators.
    """
    nodes = graph['nodes']
    layers = []
    for node in nodes:
        sources = [index for index, *_ in node['inputs']]
        inputs = [index for index in sources if nodes[index]['op'] == 'null' and nodes[index]['name'] in names]
        if inputs:
            layers.append(inputs)
    return [[nodes[index]['name'] for index in layer] for layer in sorted(layers)]
