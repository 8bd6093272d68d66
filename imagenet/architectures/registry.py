"""The architectures that `--arch` accepts. A new one needs a file in this folder and an entry here.

The files define MXNet blocks, so they are imported only when a network is built.
"""

import importlib
from collections import namedtuple

BASIC_DEPTHS = (18, 34)
BOTTLENECK_DEPTHS = (50, 101, 152)
RESNET_DEPTHS = (*BASIC_DEPTHS, *BOTTLENECK_DEPTHS)

# family, function: the file, and its function of (kit, input channels, num_layers=, num_groups=) and `settings`. It
# returns the list of features and their number of channels.
# depths: the allowed --num-layers; empty if the architecture has only one.
# least_size: the smallest height and width at which strides and unpadded convolutions leave at least one pixel.
Architecture = namedtuple('Architecture', 'family function settings depths least_size')
ARCHITECTURES = {
    'resnetv1': Architecture('resnet', 'resnet_features', {'stride_on_3x3': False}, RESNET_DEPTHS, 1),
    'resnetv15': Architecture('resnet', 'resnet_features', {'stride_on_3x3': True}, RESNET_DEPTHS, 1),
    'resnextv1': Architecture('resnet', 'resnext_features', {'stride_on_3x3': False}, BOTTLENECK_DEPTHS, 1),
    'resnextv15': Architecture('resnet', 'resnext_features', {'stride_on_3x3': True}, BOTTLENECK_DEPTHS, 1),
    'xception': Architecture('xception', 'xception_features', {}, (), 7),
}


def make_features(arch, layers, input_channels, **sizes):
    """Return the features of an architecture as a list of layers, and their number of channels.

    Args:
        layers: a `LayerKit`.
        sizes: `num_layers` and `num_groups`.
    """
    architecture = ARCHITECTURES[arch]
    family = importlib.import_module(f'imagenet.architectures.{architecture.family}')
    function = getattr(family, architecture.function)
    return function(layers, input_channels, **sizes, **architecture.settings)
