"""The architectures that `--arch` accepts. A new one needs a file in this folder and an entry here.

The files define MXNet blocks, so they are imported only when a network is built.
"""

import importlib
from collections import namedtuple

BASIC_DEPTHS = (10, 18, 34)
BOTTLENECK_DEPTHS = (50, 101, 152)
RESNET_DEPTHS = (*BASIC_DEPTHS, *BOTTLENECK_DEPTHS)
IMAGE_SHAPE = (3, 224, 224)

# The options of a network if neither the user nor the checkpoint gives them, and the architecture has no own values.
DEFAULTS = {
    'num_layers': 50,
    'num_groups': 32,
    'padding': 'symmetric',
    'batchnorm_eps': 1e-5,
    'batchnorm_mom': 0.9,
    'drop_connect': 0.0,
    'dropout': 0.0,
}

# family, function: the file, and its function of (kit, image shape, own options by name) and `settings`. It returns the
# list of features and their number of channels.
# initializer: the function in initialization.py that draws the initial weights.
# own_options: the options that it takes, of --num-layers, --num-groups and --padding.
# depths: the allowed --num-layers.
# least_size: the smallest height and width at which no convolution or pooling needs more pixels than there are.
# defaults, image_defaults: values of left out options, if they are not those of `DEFAULTS`, or of data.py.
Architecture = namedtuple(
    'Architecture',
    'family function settings initializer own_options depths least_size defaults image_defaults',
    defaults=({}, {}),
)


# A convolution of a ResNet's stem.
StemConv = namedtuple('StemConv', 'channels kernel_size stride')
PLAIN_STEM = (StemConv(64, 7, 2),)


def deep_stem(width):
    """Return the stem of ResNet-C: He et al. (arXiv:1812.01187), figure 2b, with a width of 32."""
    return StemConv(width, 3, 2), StemConv(width, 3, 1), StemConv(2 * width, 3, 1)


def resnet(stride_on_3x3, stem=PLAIN_STEM, projection='projection', least_size=1):
    """Return a ResNet.

    Args:
        stride_on_3x3: whether the stride of a bottleneck is on its 3x3 convolution, instead of the first 1x1.
        stem: its `StemConv`s.
        projection: the method of `LayerKit` that returns a shortcut's layers.
    """
    settings = {'stride_on_3x3': stride_on_3x3, 'stem': stem, 'projection': projection}
    return Architecture('resnet', 'resnet_features', settings, 'he_fan_in', ('num_layers',), RESNET_DEPTHS, least_size)


def resnext(stride_on_3x3):
    settings = {'stride_on_3x3': stride_on_3x3, 'stem': PLAIN_STEM, 'projection': 'projection'}
    options = ('num_layers', 'num_groups')
    return Architecture('resnet', 'resnext_features', settings, 'he_fan_in', options, BOTTLENECK_DEPTHS, 1)


def xception(stem_padding, least_size):
    settings = {'stem_padding': stem_padding}
    return Architecture('xception', 'xception_features', settings, 'he_fan_in', (), (), least_size)


# How a variant multiplies the channels and the blocks of the smallest one, the height and width of the images that it
# is made for, and its dropout. EfficientNet: Tan and Le (arXiv:1905.11946); the values are those of the authors' code.
Scaling = namedtuple('Scaling', 'width depth resolution dropout')
EFFICIENTNETS = {
    'b0': Scaling(1.0, 1.0, 224, 0.2),
    'b1': Scaling(1.0, 1.1, 240, 0.2),
    'b2': Scaling(1.1, 1.2, 260, 0.3),
    'b3': Scaling(1.2, 1.4, 300, 0.3),
    'b4': Scaling(1.4, 1.8, 380, 0.4),
    'b5': Scaling(1.6, 2.2, 456, 0.4),
    'b6': Scaling(1.8, 2.6, 528, 0.5),
    'b7': Scaling(2.0, 3.1, 600, 0.5),
}
EFFICIENTNETS_LITE = {
    'lite0': Scaling(1.0, 1.0, 224, 0.2),
    'lite1': Scaling(1.0, 1.1, 240, 0.2),
    'lite2': Scaling(1.1, 1.2, 260, 0.3),
    'lite3': Scaling(1.2, 1.4, 280, 0.3),
    'lite4': Scaling(1.4, 1.8, 300, 0.3),
}
LITE_INPUT = {'rgb_mean': (127.0,) * 3, 'rgb_std': (128.0,) * 3}
CROP_FRACTION = 0.875


def efficientnet(function, scaling, **image_defaults):
    settings = {'width': scaling.width, 'depth': scaling.depth}
    defaults = {'batchnorm_eps': 1e-3, 'batchnorm_mom': 0.99, 'drop_connect': 0.2, 'dropout': scaling.dropout}
    image_defaults = {
        'image_shape': (3, scaling.resolution, scaling.resolution),
        'data_val_resize': int(scaling.resolution / CROP_FRACTION),
        **image_defaults,
    }
    return Architecture('efficientnet', function, settings, 'fan_out', ('padding',), (), 1, defaults, image_defaults)


ARCHITECTURES = {
    'resnetv1': resnet(stride_on_3x3=False),
    'resnetv15': resnet(stride_on_3x3=True),
    'resnetv1c': resnet(stride_on_3x3=True, stem=deep_stem(32)),
    # Four strides come before the last average pooling, which needs two pixels.
    'resnetv1d': resnet(stride_on_3x3=True, stem=deep_stem(32), projection='averaging_projection', least_size=17),
    'resnetv1s': resnet(stride_on_3x3=True, stem=deep_stem(64)),
    'resnextv1': resnext(stride_on_3x3=False),
    'resnextv15': resnext(stride_on_3x3=True),
    'xception': xception(stem_padding=0, least_size=7),
    'xception_padded': xception(stem_padding=1, least_size=1),
    **{f'efficientnet_{name}': efficientnet('b_features', scaling) for name, scaling in EFFICIENTNETS.items()},
    **{
        f'efficientnet_{name}': efficientnet('lite_features', scaling, **LITE_INPUT)
        for name, scaling in EFFICIENTNETS_LITE.items()
    },
}


def make_features(arch, layers, image_shape, **options):
    """Return the features of an architecture as a list of layers, and their number of channels.

    Args:
        layers: a `LayerKit`.
        image_shape: `(C, H, W)`, regardless of the layout.
        options: `num_layers`, `num_groups` and `padding`; those that the architecture does not take are ignored.
    """
    architecture = ARCHITECTURES[arch]
    family = importlib.import_module(f'imagenet.architectures.{architecture.family}')
    function = getattr(family, architecture.function)
    own_options = {name: options[name] for name in architecture.own_options}
    return function(layers, image_shape, **own_options, **architecture.settings)


def are_equal(arch, other, num_layers):
    """Return whether two architectures are the same network at a depth.

    Those that differ in the stride of their bottlenecks are, if they have basic blocks instead.
    """
    return arch == other or ({arch, other} == {'resnetv1', 'resnetv15'} and num_layers in BASIC_DEPTHS)


def default_options(arch):
    """Return the values of a network's options that are left out, by name."""
    return {**DEFAULTS, **ARCHITECTURES[arch].defaults}


def default_image_shape(arch):
    """Return `(C, H, W)` of the images that an architecture is made for."""
    return ARCHITECTURES[arch].image_defaults.get('image_shape', IMAGE_SHAPE)
