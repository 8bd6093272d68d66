"""Parameter names of the package efficientnet-pytorch and its relatives: https://github.com/lukemelas."""

import re

# What precedes and follows the blocks.
PLACES = {
    'features.0': '_conv_stem',
    'features.1': '_bn0',
    'features.10': '_conv_head',
    'features.11': '_bn1',
    'output': '_fc',
}
EXPANSION = ('_expand_conv', '_bn0')
DEPTHWISE = ('_depthwise_conv', '_bn1')
SQUEEZE_EXCITATION = ('_se_reduce', '_se_expand')
PROJECTION = ('_project_conv', '_bn2')
NORM_LEAVES = {'gamma': 'weight', 'beta': 'bias'}


def original_names(canonical):
    """Return the name in a file of these packages for each canonical name of an EfficientNet; see parameters.py."""
    places = {**PLACES, **_places_of_blocks(canonical)}
    names = {}
    for name in canonical:
        place, leaf = name.rsplit('.', 1)
        names[name] = f'{places[place]}.{NORM_LEAVES.get(leaf, leaf)}'
    return names


def _places_of_blocks(canonical):
    """Return the place in these packages for each of our layers in a block."""
    layers_of_blocks = {}
    for name in canonical:
        match = re.fullmatch(r'((features\.\d+\.\d+)\.body\S+)\.\w+', name)
        if match:
            layers_of_blocks.setdefault(match[2], {})[match[1]] = None
    return {
        layer: f'_blocks.{number}.{original}'
        for number, layers in enumerate(layers_of_blocks.values())
        for layer, original in zip(layers, _original_layers(layers))
    }


def _original_layers(layers):
    """Return the names in these packages of a block's layers, in order; only the first stage has no expansion."""
    squeeze_excitation = SQUEEZE_EXCITATION if any('.gate.' in layer for layer in layers) else ()
    without_expansion = (*DEPTHWISE, *squeeze_excitation, *PROJECTION)
    return without_expansion if len(layers) == len(without_expansion) else (*EXPANSION, *without_expansion)
