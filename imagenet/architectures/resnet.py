"""ResNet v1, v1.5, C, D and S, and ResNeXt.

ResNet: He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), table 1 and figure 5. In "v1.5",
the stride of a bottleneck is on its 3x3 convolution instead of the first 1x1. ResNet-10: Simon et al., "ImageNet
pre-trained models with batch normalization" (arXiv:1612.01452). ResNet-C and -D: He et al., "Bag of Tricks for Image
Classification with Convolutional Neural Networks" (arXiv:1812.01187), figure 2; the paper's ResNet-B is v1.5. ResNet-S
is GluonCV's name for a ResNet-C with a wider stem. ResNeXt: Xie et al., "Aggregated Residual Transformations"
(arXiv:1611.05431), table 1.
"""

from imagenet.architectures.registry import BASIC_DEPTHS
from imagenet.runtime.compat import mx


class ResidualBlock(mx.gluon.HybridBlock):
    """relu(BN(body(x)) + shortcut(x)); the shortcut is a projection if the shape changes, else x itself.

    Args:
        project: a function of (input channels, channels, stride) that returns the projection, or None.
    """

    def __init__(self, layers, body, project, in_channels, channels, stride, depth):
        super().__init__()
        self.input_layout = self.output_layout = layout = layers.batchnorm_layout
        self.body = layers.sequential(*body, input_layout=layout, output_layout=layout)
        self.bn_add_relu = layers.norm_add_relu(channels, depth, gamma_initializer='zeros')
        self.downsample = project(in_channels, channels, stride)

    def hybrid_forward(self, F, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn_add_relu(self.body(x), shortcut)


def basic_body(layers, in_channels, channels, stride):
    return [
        layers.conv(in_channels, channels, 3, stride),
        layers.norm_relu(channels),
        layers.conv(channels, channels, 3),
    ]


def bottleneck_body(layers, in_channels, channels, stride, width, stride_on_3x3, groups=1):
    return [
        layers.conv(in_channels, width, 1, 1 if stride_on_3x3 else stride),
        layers.norm_relu(width, groups),
        layers.conv(width, width, 3, stride if stride_on_3x3 else 1, groups=groups),
        layers.norm_relu(width, groups),
        layers.conv(width, channels, 1),
    ]


BLOCKS_PER_STAGE = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BASIC_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_CHANNELS = (256, 512, 1024, 2048)


def residual_features(layers, image_shape, stem, projection, make_body, blocks_per_stage, stage_channels):
    """Return the stem, four stages of residual blocks and the pooling as a list, and the number of output channels.

    Args:
        stem, projection: as in registry.py.
        make_body: a function of (kit, input channels, channels, stride) that returns the layers of a block's body.
    """
    features, in_channels = [], image_shape[0]
    for channels, kernel_size, stride in stem:
        features += [layers.conv(in_channels, channels, kernel_size, stride), layers.norm_relu(channels)]
        in_channels = channels
    features.append(layers.max_pool(3, 2, 1))
    project = getattr(layers, projection)
    index, total = 0, sum(blocks_per_stage)
    for stage, (num_blocks, channels) in enumerate(zip(blocks_per_stage, stage_channels)):
        blocks = []
        for stride in (1 if stage == 0 else 2, *(1,) * (num_blocks - 1)):
            body = make_body(layers, in_channels, channels, stride)
            blocks.append(ResidualBlock(layers, body, project, in_channels, channels, stride, index / total))
            in_channels, index = channels, index + 1
        features.append(layers.sequential(*blocks))
    features.append(layers.global_average_pool())
    return features, in_channels


def resnet_features(layers, image_shape, num_layers, stride_on_3x3, stem, projection):
    def make_bottleneck(layers, in_channels, channels, stride):
        return bottleneck_body(layers, in_channels, channels, stride, channels // 4, stride_on_3x3)

    is_basic = num_layers in BASIC_DEPTHS
    make_body, channels = (basic_body, BASIC_CHANNELS) if is_basic else (make_bottleneck, BOTTLENECK_CHANNELS)
    return residual_features(layers, image_shape, stem, projection, make_body, BLOCKS_PER_STAGE[num_layers], channels)


def resnext_features(layers, image_shape, num_layers, num_groups, stride_on_3x3, stem, projection):
    """Return the features of a ResNeXt and their number of channels.

    The first stage has groups of 4 channels ("32x4d" for 32 groups); each further stage doubles the channels per group.
    """

    def make_body(layers, in_channels, channels, stride):
        width = channels // 64 * num_groups
        return bottleneck_body(layers, in_channels, channels, stride, width, stride_on_3x3, num_groups)

    blocks_per_stage = BLOCKS_PER_STAGE[num_layers]
    return residual_features(layers, image_shape, stem, projection, make_body, blocks_per_stage, BOTTLENECK_CHANNELS)
