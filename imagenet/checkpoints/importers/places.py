"""Where an array belongs in a network, whatever its file calls it: the form between foreign and canonical names.

A network is a trunk (what precedes and follows the blocks), blocks, their shortcuts, and a dense output layer. Each of
these has convolutions and batch norms, both numbered in the order of computation. Blocks are numbered over the whole
network.
"""

import re
from collections import namedtuple
from dataclasses import dataclass

# part: one of the constants below. block: its number; None outside of blocks.
# is_norm: whether the array belongs to a batch norm. number: of the batch norm or convolution in its part or block.
# leaf: weight, bias; gamma, beta, running_mean, running_var.
Place = namedtuple('Place', 'part block is_norm number leaf')
TRUNK, BLOCK, SHORTCUT, OUTPUT = 'trunk', 'block', 'shortcut', 'output'

# Where a module is: `block` and `order` are tuples that sort as the blocks, and as the modules of a part or block.
Module = namedtuple('Module', 'part block order')
# regex: of modules' names, which are arrays' names without their last part. Its group `block` is that of the module
# (`2.0`), and its group `order` the place among the modules there; `order` is used if there is no such group.
Pattern = namedtuple('Pattern', 'part regex order', defaults=((),))
LAST = (1000,)

# PyTorch calls gamma and beta weight and bias, and MXNet's symbols call running statistics moving.
NORM_LEAVES = {'weight': 'gamma', 'bias': 'beta', 'moving_mean': 'running_mean', 'moving_var': 'running_var'}
PYTORCH_LEAVES = {'gamma': 'weight', 'beta': 'bias'}
RUNNING_MEANS = ('running_mean', 'moving_mean')

# This package's own names; see parameters.py.
CANONICAL = (
    Pattern(TRUNK, r'features\.(?P<order>\d+)'),
    Pattern(BLOCK, r'features\.(?P<block>\d+\.\d+)\.body\.(?P<order>\d+(?:\.gate\.\d+)?)'),
    Pattern(BLOCK, r'features\.(?P<block>\d+\.\d+)\.bn_add_relu', LAST),
    Pattern(SHORTCUT, r'features\.(?P<block>\d+\.\d+)\.downsample\.(?P<order>\d+)'),
    Pattern(OUTPUT, r'output'),
)


def find_places(names, patterns):
    """Return the `Place` of each array whose module one of the patterns matches, by name."""
    located = {}
    for name in names:
        module, _, leaf = name.rpartition('.')
        position = _match(module, patterns)
        if position is not None:
            located[name] = module, leaf, position
    return number_places(located)


def _match(module, patterns):
    for pattern in patterns:
        match = re.fullmatch(pattern.regex, module)
        if match:
            groups = match.groupdict()
            order = _position(groups['order']) if groups.get('order') else pattern.order
            return Module(pattern.part, _position(groups.get('block') or ''), order)
    return None


def _position(text):
    return tuple(int(part) if part.isdigit() else part for part in text.split('.') if part)


def number_places(located):
    """Return the `Place` of each array by name.

    Args:
        located: for each array by name, the name of its module, its name in the module, and the `Module`.
    """
    norms = {module for module, leaf, _ in located.values() if leaf in RUNNING_MEANS}
    blocks = _ranks(position.block for *_, position in located.values() if position.block)
    orders = {}
    for module, _, position in located.values():
        orders.setdefault((position.part, position.block, module in norms), []).append(position.order)
    ranks = {key: _ranks(found) for key, found in orders.items()}
    places = {}
    for name, (module, leaf, (part, block, order)) in located.items():
        is_norm = module in norms
        number = ranks[part, block, is_norm][order]
        places[name] = Place(part, blocks.get(block), is_norm, number, NORM_LEAVES.get(leaf, leaf) if is_norm else leaf)
    return places


def _ranks(positions):
    return {position: rank for rank, position in enumerate(sorted(set(positions)))}


def stages_of_blocks(canonical):
    """Return (stage, block in the stage), from 0, by the number of the block, given a network's canonical names."""
    found = sorted({_match(name.rpartition('.')[0], CANONICAL).block for name in canonical} - {()})
    stages = _ranks(stage for stage, _ in found)
    return {number: (stages[stage], block) for number, (stage, block) in enumerate(found)}


@dataclass(frozen=True)
class WeightShapes:
    """The shapes of a network's weights.

    Attributes:
        trunk: of its convolutions outside of blocks.
        blocks: for each block, of its convolutions.
        dense: of the output layer.
    """

    trunk: tuple
    blocks: tuple
    dense: tuple


def weight_shapes(shapes):
    """Return the `WeightShapes` of arrays, given their shapes by `Place`; None if a part is missing."""
    weights = sorted(
        (place, shape) for place, shape in shapes.items() if place.leaf == 'weight' and place.part in (TRUNK, BLOCK)
    )
    trunk = tuple(shape for place, shape in weights if place.part == TRUNK)
    by_block = {}
    for place, shape in weights:
        if place.part == BLOCK:
            by_block.setdefault(place.block, []).append(shape)
    dense = shapes.get(Place(OUTPUT, None, False, 0, 'weight'))
    if not (trunk and by_block and dense):
        return None
    return WeightShapes(trunk, tuple(map(tuple, by_block.values())), dense)
