"""Parameters of an exported symbol: `prefix-symbol.json` and `prefix-0000.params`."""

import json
from pathlib import Path

from imagenet.checkpoints.parameters import named_parameters
from imagenet.checkpoints.symbol_file import read_symbol
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx


def _match_symbol(arrays, net, path):
    """Return a symbol's arrays under canonical names.

    Raises:
        UserError: the symbol file is missing, or belongs to another network.
    """
    symbol_path = Path(f'{str(path)[: str(path).rfind("-")]}-symbol.json')
    theirs = _parameters_in_graph_order(
        read_symbol(symbol_path, f"--load {path}: a symbol's parameters also need {symbol_path}"),
        {name[len('arg:') :] for name in arrays},
    )
    canonical = {param.name: name for name, param in named_parameters(net).items()}
    ours = _parameters_in_graph_order(json.loads(net(mx.sym.var('data')).tojson()), set(canonical))
    if [len(layer) for layer in theirs] != [len(layer) for layer in ours]:
        raise UserError(
            f'--load {path}: parameters of another network: {symbol_path} has {len(theirs)} layers with parameters, '
            f'--arch and --num-layers give {len(ours)}'
        )
    values = {name[len('arg:') :]: array for name, array in arrays.items()}
    return {
        canonical[our_name]: values[their_name]
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
