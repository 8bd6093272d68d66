"""EfficientNet B0 to B7, and EfficientNet-Lite0 to Lite4.

EfficientNet: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (arXiv:1905.11946),
table 1. The paper's table has one stride a stage too late; this one is that of the authors' code. Its block is MBConv:
Sandler et al., "MobileNetV2" (arXiv:1801.04381), figure 4, with squeeze-and-excitation: Hu et al. (arXiv:1709.01507),
section 3. Lite: https://github.com/tensorflow/tpu, efficientnet/lite.
"""

import math
from collections import namedtuple

from imagenet.architectures.padding import PADDINGS
from imagenet.runtime.compat import mx

# A stage: its kernel size, the stride of its first block, the expansion of the channels within a block, its channels,
# and its number of blocks.
Stage = namedtuple('Stage', 'kernel_size stride expansion channels blocks')
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
# Squeeze-and-excitation has this share of the channels of its block's input.
SQUEEZE = 0.25
CHANNEL_DIVISOR = 8


def b_features(layers, image_shape, padding, width, depth):
    """Return the features of an EfficientNet and their number of channels."""
    stages = b_stages(width, depth)
    stem, head = scaled_channels(STEM_CHANNELS, width), scaled_channels(HEAD_CHANNELS, width)
    return features(layers, image_shape, padding, stem, stages, head, layers.swish, SQUEEZE)


def lite_features(layers, image_shape, padding, width, depth):
    """Return the features of an EfficientNet-Lite and their number of channels; stem and head are not scaled."""
    stages = lite_stages(width, depth)
    return features(layers, image_shape, padding, STEM_CHANNELS, stages, HEAD_CHANNELS, layers.relu6, squeeze=None)


def b_stages(width, depth):
    """Return the stages of an EfficientNet."""
    return [
        stage._replace(channels=scaled_channels(stage.channels, width), blocks=math.ceil(depth * stage.blocks))
        for stage in STAGES
    ]


def lite_stages(width, depth):
    """Return the stages of an EfficientNet-Lite. The first and the last one keep their number of blocks."""
    stages = [stage._replace(channels=scaled_channels(stage.channels, width)) for stage in STAGES]
    return [stages[0], *(stage._replace(blocks=math.ceil(depth * stage.blocks)) for stage in stages[1:-1]), stages[-1]]


def scaled_channels(channels, width):
    """Return a multiple of 8 near `width * channels` that is not more than 10 % below it."""
    scaled = channels * width
    rounded = max(CHANNEL_DIVISOR, int(scaled + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR)
    return rounded + CHANNEL_DIVISOR if rounded < 0.9 * scaled else rounded


def features(layers, image_shape, padding, stem_channels, stages, head_channels, activation, squeeze):
    """Return the stem, the stages and the head as a list, and the number of output channels.

    Args:
        activation: a function that returns a layer.
        squeeze: as in `MBConv`.
    """
    padding_of = PADDINGS[padding]
    input_channels, *size = image_shape
    found = [
        layers.conv(input_channels, stem_channels, 3, 2, [padding_of(length, 3, 2) for length in size]),
        layers.norm(stem_channels),
        activation(),
    ]
    size = strided(size, 2)
    in_channels, index, total = stem_channels, 0, sum(stage.blocks for stage in stages)
    for stage in stages:
        blocks = []
        for stride in (stage.stride, *(1,) * (stage.blocks - 1)):
            paddings = [padding_of(length, stage.kernel_size, stride) for length in size]
            # The first block is never dropped.
            drop_connect = layers.drop_connect(index / total)
            blocks.append(MBConv(layers, in_channels, stage, stride, paddings, activation, squeeze, drop_connect))
            size, in_channels, index = strided(size, stride), stage.channels, index + 1
        found.append(layers.sequential(*blocks))
    found += [layers.conv(in_channels, head_channels, 1), layers.norm(head_channels), activation()]
    return [*found, layers.global_average_pool()], head_channels


def strided(size, stride):
    return [math.ceil(length / stride) for length in size]


class MBConv(mx.gluon.HybridBlock):
    """Expands the channels, convolves each one, and projects them; adds its input if the shape stays the same.

    Args:
        stage: the `Stage` that the block belongs to.
        paddings: padding before and after, of the height and of the width.
        activation: a function that returns a layer.
        squeeze: the share of the input channels that squeeze-and-excitation has; None if the block does without.
        drop_connect: a layer that drops the branch of some examples.
    """

    def __init__(self, layers, in_channels, stage, stride, paddings, activation, squeeze, drop_connect):
        super().__init__()
        self.input_layout = self.output_layout = layout = layers.batchnorm_layout
        expanded = in_channels * stage.expansion
        body = []
        if stage.expansion != 1:
            body += [layers.conv(in_channels, expanded, 1), layers.norm(expanded), activation()]
        body += [
            layers.conv(expanded, expanded, stage.kernel_size, stride, paddings, groups=expanded),
            layers.norm(expanded),
            activation(),
        ]
        if squeeze is not None:
            body.append(SqueezeExcitation(layers, expanded, max(1, int(in_channels * squeeze)), activation))
        body += [layers.conv(expanded, stage.channels, 1), layers.norm(stage.channels)]
        self.body = layers.sequential(*body, input_layout=layout, output_layout=layout)
        self._is_residual = stride == 1 and in_channels == stage.channels
        self._drop_connect = drop_connect

    def hybrid_forward(self, F, x):
        y = self.body(x)
        return self._drop_connect(y) + x if self._is_residual else y


class SqueezeExcitation(mx.gluon.HybridBlock):
    """Multiplies each channel by a number from 0 to 1 that depends on the means of all channels."""

    def __init__(self, layers, channels, squeezed, activation):
        super().__init__()
        self.input_layout = self.output_layout = layers.conv_layout
        self.gate = layers.sequential(
            layers.global_average_pool(),
            layers.conv(channels, squeezed, 1, use_bias=True),
            activation(),
            layers.conv(squeezed, channels, 1, use_bias=True),
            layers.sigmoid(),
            input_layout=layers.conv_layout,
            output_layout=layers.conv_layout,
        )

    def hybrid_forward(self, F, x):
        return F.broadcast_mul(x, self.gate(x))
