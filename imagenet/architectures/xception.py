"""Xception, Chollet (arXiv:1610.02357), figure 5.

The paper's first two convolutions have no padding. Those of NVIDIA's example for MXNet have.
"""

from collections import namedtuple

from imagenet.runtime.compat import mx


class XceptionBlock(mx.gluon.HybridBlock):
    """body(x) + shortcut(x); the shortcut is a projection if the shape changes, else x itself."""

    def __init__(self, layers, body, in_channels, channels, stride, depth):
        super().__init__()
        self.input_layout = self.output_layout = layout = layers.batchnorm_layout
        self.body = layers.sequential(*body, input_layout=layout, output_layout=layout)
        self.shortcut = layers.projection(in_channels, channels, stride)
        self._drop_connect = layers.drop_connect(depth)

    def hybrid_forward(self, F, x):
        return self._drop_connect(self.body(x)) + (x if self.shortcut is None else self.shortcut(x))


# An Xception block: the output channels of its separable convolutions, its stride, and whether it starts with a ReLU. A
# ReLU is needed unless the layer before the block ends with one.
XceptionRow = namedtuple('XceptionRow', 'channels stride starts_with_relu')
XCEPTION_TABLE = (
    XceptionRow((128, 128), 2, False),
    XceptionRow((256, 256), 2, True),
    XceptionRow((728, 728), 2, True),
    *(XceptionRow((728, 728, 728), 1, True),) * 8,
    XceptionRow((728, 1024), 2, True),
)
XCEPTION_EXIT_CHANNELS = (1536, 2048)


def xception_block(layers, in_channels, row, depth):
    body = [layers.relu()] if row.starts_with_relu else []
    channels_before = in_channels
    for channels in row.channels[:-1]:
        body += [layers.separable_conv(channels_before, channels), layers.norm_relu(channels)]
        channels_before = channels
    channels = row.channels[-1]
    body += [layers.separable_conv(channels_before, channels), layers.norm(channels, gamma_initializer='zeros')]
    if row.stride != 1:
        body.append(layers.max_pool(3, row.stride, 1))
    return XceptionBlock(layers, body, in_channels, channels, row.stride, depth)


def xception_features(layers, image_shape, stem_padding):
    stem_paddings = [(stem_padding, stem_padding)] * 2
    features = [
        layers.conv(image_shape[0], 32, 3, 2, stem_paddings),
        layers.norm_relu(32),
        layers.conv(32, 64, 3, paddings=stem_paddings),
        layers.norm_relu(64),
    ]
    in_channels = 64
    for index, row in enumerate(XCEPTION_TABLE):
        features.append(xception_block(layers, in_channels, row, index / len(XCEPTION_TABLE)))
        in_channels = row.channels[-1]
    for channels in XCEPTION_EXIT_CHANNELS:
        features += [layers.separable_conv(in_channels, channels), layers.norm_relu(channels)]
        in_channels = channels
    features.append(layers.global_average_pool())
    return features, in_channels
