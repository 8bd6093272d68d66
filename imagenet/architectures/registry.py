"""The architectures that `--arch` accepts. A new one needs a file in this folder and an entry here.

The files define MXNet blocks, so they are imported only when a network is built.
"""

import importlib
from collections import namedtuple

BASIC_DEPTHS = (10, 18, 34)
BOTTLENECK_DEPTHS = (50, 101, 152)
RESNET_DEPTHS = (*BASIC_DEPTHS, *BOTTLENECK_DEPTHS)

# family, function: the file, and its function of (kit, input channels, sizes by name) and `settings`. It returns the
# list of features and their number of channels.
# sizes: the options that it takes, of --num-layers and --num-groups.
# depths: the allowed --num-layers.
# least_size: the smallest height and width at which strides and unpadded convolutions leave at least one pixel.
Architecture = namedtuple('Architecture', 'family function settings sizes depths least_size')
RESNET, RESNEXT = ('num_layers',), ('num_layers', 'num_groups')
ARCHITECTURES = {
    'resnetv1': Architecture('resnet', 'resnet_features', {'stride_on_3x3': False}, RESNET, RESNET_DEPTHS, 1),
    'resnetv15': Architecture('resnet', 'resnet_features', {'stride_on_3x3': True}, RESNET, RESNET_DEPTHS, 1),
    'resnextv1': Architecture('resnet', 'resnext_features', {'stride_on_3x3': False}, RESNEXT, BOTTLENECK_DEPTHS, 1),
    'resnextv15': Architecture('resnet', 'resnext_features', {'stride_on_3x3': True}, RESNEXT, BOTTLENECK_DEPTHS, 1),
    'xception': Architecture('xception', 'xception_features', {'stem_padding': 0}, (), (), 7),
    'xception_padded': Architecture('xception', 'xception_features', {'stem_padding': 1}, (), (), 1),
}


def make_features(arch, layers, input_channels, **sizes):
    """Return the features of an architecture as a list of layers, and their number of channels.

    Args:
        layers: a `LayerKit`.
        sizes: `num_layers` and `num_groups`; those that the architecture does not have are ignored.
    """
    architecture = ARCHITECTURES[arch]
    family = importlib.import_module(f'imagenet.architectures.{architecture.family}')
    function = getattr(family, architecture.function)
    own_sizes = {name: sizes[name] for name in architecture.sizes}
    return function(layers, input_channels, **own_sizes, **architecture.settings)
