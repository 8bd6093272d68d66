"""Names of Gluon's parameters with prefixes, which `collect_params().save` and `export` write.

They are those of MXNet's model zoo (`resnetv10_stage1_conv0_weight`) and of GluonCV (`resnetv1b_layers1_conv0_weight`,
`resnetv1b_down1_conv0_weight`); the first part may be missing. Layers are counted in each stage, in the order of
creation: those of the first block, then those of its shortcut unless they are counted by themselves, then those of the
other blocks.
"""

import re

from imagenet.checkpoints.importers.places import BLOCK, OUTPUT, SHORTCUT, TRUNK, Module, number_places

NAME = re.compile(
    r'(?:[a-z0-9]+_)??(?P<module>(?:(?P<container>stage|layers|down)(?P<stage>\d)_)?'
    r'(?P<kind>conv|batchnorm|dense)(?P<number>\d+))_'
    r'(?P<leaf>weight|bias|gamma|beta|running_mean|running_var)'
)
# A bottleneck's first convolution has this kernel.
POINTWISE = (1, 1)
LAST_OF_DEEP_STEM = 'conv2_weight'
# Of that convolution in ResNet-C and -D; ResNet-S has twice as many.
CHANNELS_OF_D = 64


def find_places(shapes):
    """Return the `Place` of each array by name, given their shapes by name."""
    matches = {name: match for name, match in ((name, NAME.fullmatch(name)) for name in shapes) if match}
    first = next((shapes[name] for name, match in matches.items() if match['module'].endswith('4_conv0')), ())
    layers = 3 if first[2:] == POINTWISE else 2
    counts = {}
    for match in matches.values():
        if match['kind'] == 'conv':
            counts[match['stage']] = max(counts.get(match['stage'], 0), 1 + int(match['number']))
    return number_places(
        {
            name: (match['module'], match['leaf'], _locate(match, layers, counts.get(match['stage'], 0)))
            for name, match in matches.items()
        }
    )


def _locate(match, layers, count):
    """Return the `Module` of an array's name.

    Args:
        layers: convolutions in a block.
        count: convolutions in the stage; one more than those of its blocks if it counts the shortcut's, too.
    """
    number = int(match['number'])
    if match['kind'] == 'dense':
        return Module(OUTPUT, (), ())
    if match['stage'] is None:
        return Module(TRUNK, (), (number,))
    stage, counts_shortcut = int(match['stage']), count % layers == 1
    if match['container'] == 'down' or (counts_shortcut and number == layers):
        return Module(SHORTCUT, (stage, 0), ())
    if counts_shortcut and number > layers:
        number -= 1
    return Module(BLOCK, (stage, number // layers), (number % layers,))


def stride_on_3x3(shapes):
    """Return whether it is there, given the shapes by name: in GluonCV's ResNets, and in networks of groups."""
    return any('layers1_' in name or _has_groups(name, shape) for name, shape in shapes.items())


def _has_groups(name, shape):
    return name.endswith('stage1_conv1_weight') and shape[0] != shape[1]


def averages_shortcuts(shapes):
    """Return whether the prefix of a network with a deep stem says so, given the shapes by name.

    Without a prefix, nothing tells ResNet-C from ResNet-D, which is more usual.
    """
    if LAST_OF_DEEP_STEM in shapes:
        return shapes[LAST_OF_DEEP_STEM][0] == CHANNELS_OF_D
    return f'resnetv1d_{LAST_OF_DEEP_STEM}' in shapes
