"""Where the parameters of a residual network are, judging by its graph: symbols of MXNet's model zoo, of GluonCV, and
of the Module API's examples, whatever their parameters are called.
"""

from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np

from imagenet.checkpoints.importers.places import BLOCK, OUTPUT, SHORTCUT, TRUNK, Module, number_places

# The names of operators' parameters in this package, in the order of their inputs behind the data.
CONVOLUTION, DENSE, NORM = 'Convolution', 'FullyConnected', 'BatchNorm'
PARAMETERS = {
    CONVOLUTION: ('weight', 'bias'),
    DENSE: ('weight', 'bias'),
    NORM: ('gamma', 'beta', 'running_mean', 'running_var'),
}
ADDITIONS = ('elemwise_add', 'broadcast_add', '_plus', '_Plus')
DEFAULT_EPS = 1e-3
CONVOLUTIONS_OF_BOTTLENECK = 3
# ResNet-152 has 700.
MOST_NODES = 10_000


class OtherNetworkError(ValueError):
    """A graph is not that of a residual network with activations behind the additions."""


@dataclass(frozen=True)
class Node:
    """An operator.

    Attributes:
        index: its place in the order of computation.
        data: the operator whose output it reads; None for the first one.
        others: names of its parameters; or, for an addition, the operator whose output it adds.
    """

    index: int
    op: str
    name: str
    attributes: dict
    data: object
    others: tuple

    def chain(self):
        """Return this operator, the one whose output it reads, and so on."""
        found, node = [], self
        while node is not None:
            found.append(node)
            node = node.data
        return found


# body, shortcut: operators in the order of computation.
Block = namedtuple('Block', 'body shortcut')


@dataclass(frozen=True)
class ResidualGraph:
    """The operators of a residual network.

    Attributes:
        input_norm: a batch norm that normalizes the images, or None.
        trunk: the other operators outside of blocks, in the order of computation.
    """

    input_norm: Node
    trunk: tuple
    blocks: tuple
    dense: Node
    norms: tuple = field(default=())

    def places(self):
        """Return the `Place` of each parameter by name; those of `input_norm` have none."""
        located = {}
        for node in self.trunk:
            _locate(node, Module(TRUNK, (), (node.index,)), located)
        for number, block in enumerate(self.blocks):
            for part, nodes in ((BLOCK, block.body), (SHORTCUT, block.shortcut)):
                for node in nodes:
                    _locate(node, Module(part, (number,), (node.index,)), located)
        _locate(self.dense, Module(OUTPUT, (), ()), located)
        return number_places(located)

    def eps(self):
        """Return batch norm's epsilon."""
        found = {_eps(node) for node in self.norms}
        if len(found) != 1:
            raise OtherNetworkError(f'batch norms with {len(found)} different epsilons')
        return found.pop()

    def unit_gammas(self):
        """Return the names of the gammas that count as 1, whatever their values."""
        return {node.others[0] for node in self.norms if _has_unit_gamma(node)}

    def stride_on_3x3(self):
        """Return whether the stride of bottlenecks is there."""
        strides = [[_stride(node) for node in block.body if node.op == CONVOLUTION] for block in self.blocks]
        return all(found[0] == 1 for found in strides if len(found) == CONVOLUTIONS_OF_BOTTLENECK)

    def averages_shortcuts(self):
        return any(node.op == 'Pooling' for block in self.blocks for node in block.shortcut)

    def input_options(self, arrays):
        """Return the options that prepare images as `input_norm` does with pixels, by name.

        Args:
            arrays: MXNet arrays by name.
        """
        if self.input_norm is None:
            return {}
        gamma, beta, mean, variance = (arrays[name].asnumpy().astype(np.float64) for name in self.input_norm.others)
        scale = (1 if _has_unit_gamma(self.input_norm) else gamma) / np.sqrt(variance + _eps(self.input_norm))
        return {'rgb_mean': tuple((mean - beta / scale).tolist()), 'rgb_std': tuple((1 / scale).tolist())}


def read_residual_graph(content):
    """Return the `ResidualGraph` in the content of a symbol's file; see symbol_file.py.

    Raises:
        OtherNetworkError: see there.
    """
    if len(content['nodes']) > MOST_NODES:
        raise OtherNetworkError(f'more than {MOST_NODES} nodes')
    nodes = _resolve(content['nodes'])
    dense = [node for node in nodes if node.op == DENSE and node.data is not None]
    if len(dense) != 1:
        raise OtherNetworkError(f'{len(dense)} dense layers')
    trunk, blocks, node = [], [], dense[0].data
    while node is not None:
        if node.op in ADDITIONS:
            block, node = _branches(node)
            blocks.append(block)
        else:
            trunk.append(node)
            node = node.data
    trunk, blocks = trunk[::-1], blocks[::-1]
    first = next((node for node in trunk if node.op in PARAMETERS), None)
    input_norm = first if first is not None and first.op == NORM else None
    if not blocks or any(node.op in PARAMETERS and node.index > blocks[0].body[0].index for node in trunk):
        raise OtherNetworkError('layers with parameters between or behind its blocks')
    norms = [node for node in nodes if node.op == NORM and node is not input_norm]
    trunk = [node for node in trunk if node is not input_norm]
    return ResidualGraph(input_norm, tuple(trunk), tuple(blocks), dense[0], tuple(norms))


def _resolve(described):
    """Return the operators of a graph, in the order of computation."""
    variables = {index: node['name'] for index, node in enumerate(described) if node['op'] == 'null'}
    nodes = {}
    for index, node in enumerate(described):
        if index in variables:
            continue
        sources = [source for source, *_ in node['inputs']]
        parameters = len(PARAMETERS.get(node['op'], ()))
        if node['op'] in ADDITIONS:
            others = tuple(nodes.get(source) for source in sources[1:])
        else:
            others = tuple(variables.get(source) for source in sources[1 : 1 + parameters])
        if None in others or (node['op'] == NORM and len(others) != parameters):
            raise OtherNetworkError(f'{node["name"]} has other inputs than expected')
        # Versions of MXNet differ in the name.
        attributes = node.get('attrs') or node.get('attr') or node.get('param') or {}
        data = nodes.get(sources[0]) if sources else None
        nodes[index] = Node(index, node['op'], node['name'], attributes, data, others)
    return list(nodes.values())


def _branches(addition):
    """Return the `Block` that an addition ends, and the operator that both of its branches start from."""
    if addition.data is None or len(addition.others) != 1:
        raise OtherNetworkError(f'{addition.name} does not add two branches')
    chains = addition.data.chain(), addition.others[0].chain()
    indices = {node.index for node in chains[1]}
    start = next((node for node in chains[0] if node.index in indices), None)
    if start is None:
        raise OtherNetworkError(f'{addition.name} adds branches without a common input')
    branches = [[node for node in chain if node.index > start.index][::-1] for chain in chains]
    shortcut, body = sorted(branches, key=lambda branch: sum(node.op == CONVOLUTION for node in branch))
    if not body or body[-1].op != NORM:
        raise OtherNetworkError('a block does not end with batch norm, as in ResNet v2')
    return Block(body, shortcut), start


def _locate(node, module, located):
    """Add the parameters of an operator to `located`; see `number_places`."""
    for leaf, name in zip(PARAMETERS.get(node.op, ()), node.others):
        located[name] = node.name, leaf, module


def _eps(node):
    return _number(node.attributes.get('eps', DEFAULT_EPS))


def _has_unit_gamma(node):
    return node.attributes.get('fix_gamma', 'True') in ('True', '1')


def _stride(node):
    """Return the larger of a convolution's strides."""
    text = node.attributes.get('stride', '1')
    return max(_number(part) for part in text.strip('()[], ').split(','))


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise OtherNetworkError(f'{text} instead of a number') from None
