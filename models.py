"""The architectures, and `get_model()`.

Sources: He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), table 1 and figure 5, for the
networks; "v1.5" puts the stride of a bottleneck on its 3x3 convolution instead of the first 1x1. The zero start of each
block's last gamma is from Goyal et al., "Accurate, Large Minibatch SGD" (arXiv:1706.02677), section 5.1.
"""

from compat import mx
from errors import UserError
from layers import LayerKit

nn = mx.gluon.nn


def add_model_args(parser):
    group = parser.add_argument_group('Model')
    group.add_argument(
        '--num-layers',
        type=int,
        default=50,
        help=f'depth of the ResNet v1.5: {", ".join(map(str, RESNET_TABLE))} (default: %(default)s)',
    )
    group.add_argument(
        '--num-classes',
        type=int,
        help='number of classes (default: what the checkpoint of --load has, else what the data set has, else 1000)',
    )
    group.add_argument('--batchnorm-eps', type=float, default=1e-5, help='batch norm epsilon (default: %(default)s)')
    group.add_argument(
        '--batchnorm-mom', type=float, default=0.9, help='batch norm running average momentum (default: %(default)s)'
    )
    group.add_argument(
        '--fuse-bn-relu',
        type=int,
        choices=(0, 1),
        default=0,
        help='compute batch norm and ReLU in one operator; `runner` sets it on a CPU (default: %(default)s)',
    )
    return group


class ResidualBlock(nn.HybridBlock):
    """relu(BN(body(x)) + shortcut(x)); the shortcut is a projection where the shape changes, else x itself."""

    def __init__(self, layers, body, in_channels, channels, stride):
        super().__init__()
        self.body = layers.sequential(*body)
        self.bn_add_relu = layers.norm_add_relu(channels, gamma_initializer='zeros')
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = layers.sequential(
                layers.conv(in_channels, channels, 1, stride),
                layers.norm(channels),
            )

    def hybrid_forward(self, F, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn_add_relu(self.body(x), shortcut)


def basic_body(layers, in_channels, channels, stride):
    return [
        layers.conv(in_channels, channels, 3, stride),
        layers.norm_relu(channels),
        layers.conv(channels, channels, 3),
    ]


def bottleneck_body(layers, in_channels, channels, stride):
    bottleneck = channels // 4
    return [
        layers.conv(in_channels, bottleneck, 1),
        layers.norm_relu(bottleneck),
        layers.conv(bottleneck, bottleneck, 3, stride),
        layers.norm_relu(bottleneck),
        layers.conv(bottleneck, channels, 1),
    ]


BASIC_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_CHANNELS = (256, 512, 1024, 2048)
# depth: (body of a block, blocks in each stage, output channels of each stage)
RESNET_TABLE = {
    18: (basic_body, (2, 2, 2, 2), BASIC_CHANNELS),
    34: (basic_body, (3, 4, 6, 3), BASIC_CHANNELS),
    50: (bottleneck_body, (3, 4, 6, 3), BOTTLENECK_CHANNELS),
    101: (bottleneck_body, (3, 4, 23, 3), BOTTLENECK_CHANNELS),
    152: (bottleneck_body, (3, 8, 36, 3), BOTTLENECK_CHANNELS),
}


def resnet_stage(layers, make_body, num_blocks, in_channels, channels, stride):
    blocks = []
    for index in range(num_blocks):
        block_in, block_stride = (in_channels, stride) if index == 0 else (channels, 1)
        body = make_body(layers, block_in, channels, block_stride)
        blocks.append(ResidualBlock(layers, body, block_in, channels, block_stride))
    return layers.sequential(*blocks)


def resnet_features(layers, num_layers):
    """Everything before the classifier: `(N, 3, H, W)` images to `(N, channels, 1, 1)`, and the number of channels."""
    make_body, blocks_per_stage, stage_channels = RESNET_TABLE[num_layers]
    stem_channels = 64
    features = [
        layers.conv(3, stem_channels, 7, 2),
        layers.norm_relu(stem_channels),
        layers.max_pool(3, 2, 1),
    ]
    in_channels = stem_channels
    for stage, (num_blocks, channels) in enumerate(zip(blocks_per_stage, stage_channels)):
        features.append(
            resnet_stage(layers, make_body, num_blocks, in_channels, channels, stride=1 if stage == 0 else 2)
        )
        in_channels = channels
    features.append(layers.global_average_pool())
    return layers.sequential(*features), in_channels


class Classifier(nn.HybridBlock):
    """Features, then one dense layer: `(N, 3, H, W)` images to float32 logits `(N, num_classes)`."""

    def __init__(self, features, channels, num_classes):
        super().__init__()
        self.features = features
        self.output = nn.Dense(num_classes, in_units=channels)

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))


def get_model(num_layers, num_classes, batchnorm_eps=1e-5, batchnorm_mom=0.9, fuse_bn_relu=0, **_):
    """Builds a network, with no values in its parameters yet.

    Returns:
        A `HybridBlock` from images `(N, 3, H, W)` to float32 logits `(N, num_classes)`.

    Raises:
        UserError: there is no such network.
    """
    if num_layers not in RESNET_TABLE:
        raise UserError(f'--num-layers {num_layers}: there are {", ".join(map(str, RESNET_TABLE))}')
    if num_classes < 1:
        raise UserError(f'--num-classes {num_classes}: there must be at least one')
    layers = LayerKit(batchnorm_eps, batchnorm_mom, bool(fuse_bn_relu))
    features, channels = resnet_features(layers, num_layers)
    return Classifier(features, channels, num_classes)


def initialize(net, devices):
    """Fills the parameters as the recipe says: He et al. (arXiv:1502.01852), equation 10, fan-in and Gaussian."""
    he_initializer = mx.init.Xavier(rnd_type='gaussian', factor_type='in', magnitude=2)
    net.initialize(he_initializer, ctx=devices, force_reinit=True)
