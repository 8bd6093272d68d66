"""EfficientNets of the package efficientnet-pytorch and its relatives: https://github.com/lukemelas."""

from imagenet.checkpoints.importers.places import BLOCK, LAST, OUTPUT, TRUNK, Pattern

PATTERNS = (
    Pattern(TRUNK, r'_conv_stem|_bn0', (0,)),
    Pattern(BLOCK, r'_blocks\.(?P<block>\d+)\._expand_conv', (0,)),
    Pattern(BLOCK, r'_blocks\.(?P<block>\d+)\._depthwise_conv', (1,)),
    Pattern(BLOCK, r'_blocks\.(?P<block>\d+)\._se_reduce', (2,)),
    Pattern(BLOCK, r'_blocks\.(?P<block>\d+)\._se_expand', (3,)),
    Pattern(BLOCK, r'_blocks\.(?P<block>\d+)\._project_conv', (4,)),
    Pattern(BLOCK, r'_blocks\.(?P<block>\d+)\._bn(?P<order>\d)'),
    Pattern(TRUNK, r'_conv_head|_bn1', LAST),
    Pattern(OUTPUT, r'_fc'),
)


def assumed(path, arch):
    """Return options that the arrays do not determine: all of these networks were trained in TensorFlow."""
    return {'padding': 'same', 'batchnorm_eps': 1e-3, 'interpolation': 'cubic'}
