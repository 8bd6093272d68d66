"""Which network the arrays of a foreign file belong to, judging by the shapes of its weights."""

from imagenet.architectures.efficientnet import b_stages, lite_stages
from imagenet.architectures.registry import BASIC_DEPTHS, BOTTLENECK_DEPTHS, EFFICIENTNETS, EFFICIENTNETS_LITE
from imagenet.architectures.resnet import BLOCKS_PER_STAGE

# By the channels of the stem's convolutions, whether a bottleneck's stride is on its 3x3 convolution, and whether
# shortcuts average.
RESNETS = {
    ((64,), False, False): 'resnetv1',
    ((64,), True, False): 'resnetv15',
    ((32, 32, 64), True, False): 'resnetv1c',
    ((32, 32, 64), True, True): 'resnetv1d',
    ((64, 64, 128), True, False): 'resnetv1s',
}
RESNEXTS = {'resnetv1': 'resnextv1', 'resnetv15': 'resnextv15'}
CONVOLUTIONS_OF_BOTTLENECK = 3
# The first block of an EfficientNet has a depthwise convolution and a projection, and perhaps squeeze-and-excitation.
CONVOLUTIONS_OF_FIRST_BLOCK = 2
# Of a group in a ResNeXt's first stage.
CHANNELS_PER_GROUP = 4


def identify(weights, stride_on_3x3, averages_shortcuts):
    """Return the options of the network with these weights, by name; None if no architecture has such ones.

    Only some of the weights decide: whether all fit is seen when they are loaded.

    Args:
        weights: `WeightShapes`.
        stride_on_3x3, averages_shortcuts: what shapes do not show of a ResNet.
    """
    *stem, last = weights.trunk
    is_efficientnet = stem and last[2:] == (1, 1)
    found = _efficientnet(weights) if is_efficientnet else _resnet(weights, stride_on_3x3, averages_shortcuts)
    return found and {**found, 'num_classes': weights.dense[0]}


def _resnet(weights, stride_on_3x3, averages_shortcuts):
    first = weights.blocks[0]
    depths = BOTTLENECK_DEPTHS if len(first) == CONVOLUTIONS_OF_BOTTLENECK else BASIC_DEPTHS
    depth = {sum(BLOCKS_PER_STAGE[depth]): depth for depth in depths}.get(len(weights.blocks))
    arch = RESNETS.get((tuple(shape[0] for shape in weights.trunk), stride_on_3x3, averages_shortcuts))
    width, group_width, *_ = first[1]
    groups = width // group_width
    if groups > 1:
        arch = RESNEXTS.get(arch) if group_width == CHANNELS_PER_GROUP else None
    if depth is None or arch is None:
        return None
    return {'arch': arch, 'num_layers': depth, **({'num_groups': groups} if groups > 1 else {})}


def _efficientnet(weights):
    families = {'b': (b_stages, EFFICIENTNETS), 'lite': (lite_stages, EFFICIENTNETS_LITE)}
    has_squeeze = len(weights.blocks[0]) > CONVOLUTIONS_OF_FIRST_BLOCK
    make_stages, variants = families['b' if has_squeeze else 'lite']
    found = len(weights.blocks), weights.trunk[-1][1]
    for name, scaling in variants.items():
        stages = make_stages(scaling.width, scaling.depth)
        if found == (sum(stage.blocks for stage in stages), stages[-1].channels):
            return {'arch': f'efficientnet_{name}'}
    return None
