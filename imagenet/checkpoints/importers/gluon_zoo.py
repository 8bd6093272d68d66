"""ResNets v1 of MXNet's model zoo (mxnet/gluon/model_zoo/vision/resnet.py), and ResNeXts of GluonCV.

They have the same names. Bottlenecks of the zoo's ResNets have their stride on the first 1x1 convolution, and
convolutions with biases; those of GluonCV's ResNeXts have their stride on the 3x3 convolution.
"""

from imagenet.checkpoints.importers.places import BLOCK, OUTPUT, SHORTCUT, TRUNK, Pattern

PATTERNS = (
    Pattern(TRUNK, r'features\.(?P<order>\d)'),
    Pattern(BLOCK, r'features\.(?P<block>\d\.\d+)\.body\.(?P<order>\d)'),
    Pattern(SHORTCUT, r'features\.(?P<block>\d\.\d+)\.downsample\.(?P<order>\d)'),
    Pattern(OUTPUT, r'output'),
)
SECOND_CONVOLUTION = 'features.4.0.body.3.weight'


def stride_on_3x3(shapes):
    """Return whether it is there, given the shapes of the arrays by name: in networks of groups."""
    channels, channels_of_group, *_ = shapes[SECOND_CONVOLUTION]
    return channels != channels_of_group
