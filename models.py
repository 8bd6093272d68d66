#!/usr/bin/env python
"""The architectures, and `get_model()`.

    python models.py --summary --arch resnextv15 --num-layers 50

prints a network's layers. An architecture is a function that writes down its features, and a line in `ARCHITECTURES`.

Sources: ResNet is He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), table 1 and figure 5;
"v1.5" puts the stride of a bottleneck on its 3x3 convolution instead of the first 1x1. ResNeXt is Xie et al.,
"Aggregated Residual Transformations" (arXiv:1611.05431), table 1. Xception is Chollet (arXiv:1610.02357), figure 5. The
zero start of each block's last gamma is Goyal et al., "Accurate, Large Minibatch SGD" (arXiv:1706.02677), section 5.1.
"""

import json
from collections import namedtuple

import numpy as np
from tabulate import tabulate

from checkpoint import canonical_shapes, named_parameters, set_canonical
from compat import mx
from errors import UserError, one_line_errors
from layers import LAYOUTS, LayerKit, change_layout
from options import ArgumentParser, comma_separated

nn = mx.gluon.nn


def projection(layers, in_channels, channels, stride):
    """A shortcut's 1x1 convolution and batch norm where a block changes the shape; None where it does not."""
    if stride == 1 and in_channels == channels:
        return None
    return layers.sequential(
        layers.conv(in_channels, channels, 1, stride),
        layers.norm(channels),
        input_layout=layers.batchnorm_layout,
    )


class ResidualBlock(nn.HybridBlock):
    """relu(BN(body(x)) + shortcut(x)); the shortcut is a projection where the shape changes, else x itself."""

    def __init__(self, layers, body, in_channels, channels, stride):
        super().__init__()
        self.input_layout = self.output_layout = layout = layers.batchnorm_layout
        self.body = layers.sequential(*body, input_layout=layout, output_layout=layout)
        self.bn_add_relu = layers.norm_add_relu(channels, gamma_initializer='zeros')
        self.downsample = projection(layers, in_channels, channels, stride)

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


BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BASIC_DEPTHS = (18, 34)
BOTTLENECK_DEPTHS = (50, 101, 152)
BASIC_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_CHANNELS = (256, 512, 1024, 2048)
STEM_CHANNELS = 64


def residual_features(layers, input_channels, make_body, blocks_per_stage, stage_channels):
    """The stem, four stages of residual blocks and the pooling, as a list; and the number of channels that come out."""
    features = [
        layers.conv(input_channels, STEM_CHANNELS, 7, 2),
        layers.norm_relu(STEM_CHANNELS),
        layers.max_pool(3, 2, 1),
    ]
    in_channels = STEM_CHANNELS
    for stage, (num_blocks, channels) in enumerate(zip(blocks_per_stage, stage_channels)):
        blocks = []
        for index in range(num_blocks):
            stride = 2 if index == 0 and stage > 0 else 1
            body = make_body(layers, in_channels, channels, stride)
            blocks.append(ResidualBlock(layers, body, in_channels, channels, stride))
            in_channels = channels
        features.append(layers.sequential(*blocks))
    features.append(layers.global_average_pool())
    return features, in_channels


def resnet_features(layers, input_channels, num_layers, stride_on_3x3, **_):
    if num_layers in BASIC_DEPTHS:
        return residual_features(layers, input_channels, basic_body, BLOCKS_PER_STAGE[num_layers], BASIC_CHANNELS)

    def make_body(layers, in_channels, channels, stride):
        return bottleneck_body(layers, in_channels, channels, stride, channels // 4, stride_on_3x3)

    return residual_features(layers, input_channels, make_body, BLOCKS_PER_STAGE[num_layers], BOTTLENECK_CHANNELS)


def resnext_features(layers, input_channels, num_layers, num_groups, stride_on_3x3, **_):
    """Groups of 4 channels in the first stage, "32x4d" for 32 of them; twice as many channels in each further one."""

    def make_body(layers, in_channels, channels, stride):
        width = channels // 64 * num_groups
        return bottleneck_body(layers, in_channels, channels, stride, width, stride_on_3x3, num_groups)

    return residual_features(layers, input_channels, make_body, BLOCKS_PER_STAGE[num_layers], BOTTLENECK_CHANNELS)


class XceptionBlock(nn.HybridBlock):
    """body(x) + shortcut(x); the shortcut is a projection where the shape changes, else x itself."""

    def __init__(self, layers, body, in_channels, channels, stride):
        super().__init__()
        self.input_layout = self.output_layout = layout = layers.batchnorm_layout
        self.body = layers.sequential(*body, input_layout=layout, output_layout=layout)
        self.shortcut = projection(layers, in_channels, channels, stride)

    def hybrid_forward(self, F, x):
        return self.body(x) + (x if self.shortcut is None else self.shortcut(x))


# An Xception block's separable convolutions by their output channels, its stride, and whether it starts with a ReLU (it
# does wherever the layer before it does not end with one).
XceptionRow = namedtuple('XceptionRow', 'channels stride starts_with_relu')
XCEPTION_TABLE = (
    XceptionRow((128, 128), 2, False),
    XceptionRow((256, 256), 2, True),
    XceptionRow((728, 728), 2, True),
    *(XceptionRow((728, 728, 728), 1, True),) * 8,
    XceptionRow((728, 1024), 2, True),
)
XCEPTION_EXIT_CHANNELS = (1536, 2048)


def xception_block(layers, in_channels, row):
    body = [layers.relu()] if row.starts_with_relu else []
    channels_before = in_channels
    for channels in row.channels[:-1]:
        body += [layers.separable_conv(channels_before, channels), layers.norm_relu(channels)]
        channels_before = channels
    channels = row.channels[-1]
    body += [layers.separable_conv(channels_before, channels), layers.norm(channels, gamma_initializer='zeros')]
    if row.stride != 1:
        body.append(layers.max_pool(3, row.stride, 1))
    return XceptionBlock(layers, body, in_channels, channels, row.stride)


def xception_features(layers, input_channels, **_):
    features = [
        layers.conv(input_channels, 32, 3, 2, padding=0),
        layers.norm_relu(32),
        layers.conv(32, 64, 3, padding=0),
        layers.norm_relu(64),
    ]
    in_channels = 64
    for row in XCEPTION_TABLE:
        features.append(xception_block(layers, in_channels, row))
        in_channels = row.channels[-1]
    for channels in XCEPTION_EXIT_CHANNELS:
        features += [layers.separable_conv(in_channels, channels), layers.norm_relu(channels)]
        in_channels = channels
    features.append(layers.global_average_pool())
    return features, in_channels


# make_features: a function of (kit, input channels, num_layers=, num_groups=) and `settings`, giving the list of
# features and their number of channels. depths: allowed --num-layers, empty where the architecture has only one.
# least_size: the smallest image that its strides and unpadded convolutions leave something of.
Architecture = namedtuple('Architecture', 'make_features settings depths least_size')
ARCHITECTURES = {
    'resnetv1': Architecture(resnet_features, {'stride_on_3x3': False}, tuple(BLOCKS_PER_STAGE), 1),
    'resnetv15': Architecture(resnet_features, {'stride_on_3x3': True}, tuple(BLOCKS_PER_STAGE), 1),
    'resnextv1': Architecture(resnext_features, {'stride_on_3x3': False}, BOTTLENECK_DEPTHS, 1),
    'resnextv15': Architecture(resnext_features, {'stride_on_3x3': True}, BOTTLENECK_DEPTHS, 1),
    'xception': Architecture(xception_features, {}, (), 7),
}


def add_model_args(parser):
    group = parser.add_argument_group('Model')
    group.add_argument('--arch', choices=tuple(ARCHITECTURES), default='resnetv15', help='(default: %(default)s)')
    depths = ', '.join(map(str, BLOCKS_PER_STAGE))
    group.add_argument(
        '--num-layers',
        type=int,
        default=50,
        help=f'depth of a ResNet ({depths}) or ResNeXt (from 50 on) (default: %(default)s)',
    )
    group.add_argument(
        '--num-groups', type=int, default=32, help='groups of a ResNeXt, each 4 channels wide (default: %(default)s)'
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
        help='compute batch norm and ReLU in one operator where MXNet has one; `runner` sets it (default: %(default)s)',
    )
    group.add_argument(
        '--fuse-bn-add-relu',
        type=int,
        choices=(0, 1),
        default=0,
        help='the same with the addition of the residual in between (default: %(default)s)',
    )
    for name, what in (
        ('input', 'the images that the network is given'),
        ('conv', 'convolutions (on a CPU, every layer computes in NCHW, whatever is asked for)'),
        ('batchnorm', 'batch normalisation'),
        ('pooling', 'pooling'),
    ):
        group.add_argument(
            f'--{name}-layout', choices=LAYOUTS, default='NCHW', help=f'layout of {what} (default: %(default)s)'
        )
    return group


class Classifier(nn.HybridBlock):
    """Features, then one dense layer: images to float32 logits `(N, num_classes)`.

    Attributes:
        weight_layout: 'NCHW' where convolution weights are (out, in, height, width), 'NHWC' where in comes last.
        input_channels: 3 or 4.
        input_layout: of the images.
    """

    def __init__(self, layers, features, channels, num_classes, input_channels, input_layout):
        super().__init__()
        self.weight_layout = layers.conv_layout
        self.input_channels = input_channels
        self.input_layout = input_layout
        self.features = layers.sequential(*features)
        self.output = nn.Dense(num_classes, in_units=channels)

    def hybrid_forward(self, F, x):
        x = change_layout(F, x, self.input_layout, self.features.input_layout)
        return self.output(self.features(x)).astype('float32')


def check_model_args(arch, num_layers, num_groups, num_classes, image_shape, batchnorm_eps, batchnorm_mom, **_):
    """Raises `UserError` for a network that cannot be built."""
    architecture = ARCHITECTURES[arch]
    if architecture.depths and num_layers not in architecture.depths:
        allowed = ', '.join(map(str, architecture.depths))
        raise UserError(f'--num-layers {num_layers}: --arch {arch} has {allowed}')
    if num_groups < 1:
        raise UserError(f'--num-groups {num_groups}: needed is at least 1')
    if num_classes is not None and num_classes < 1:
        raise UserError(f'--num-classes {num_classes}: needed is at least 1')
    if not 0 < batchnorm_eps < 1:
        raise UserError(f'--batchnorm-eps {batchnorm_eps:g}: needed is 0 < epsilon < 1')
    if not 0 <= batchnorm_mom < 1:
        raise UserError(f'--batchnorm-mom {batchnorm_mom:g}: needed is 0 <= momentum < 1')
    shape = ','.join(map(str, image_shape))
    if len(image_shape) != 3 or image_shape[0] not in (3, 4):
        raise UserError(f'--image-shape {shape}: it takes CHANNELS,HEIGHT,WIDTH with 3 or 4 channels')
    if min(image_shape[1:]) < architecture.least_size:
        least = architecture.least_size
        raise UserError(f'--image-shape {shape}: --arch {arch} needs a height and width of at least {least}')


def get_model(
    arch='resnetv15',
    num_layers=50,
    num_groups=32,
    num_classes=1000,
    image_shape=(3, 224, 224),
    input_layout='NCHW',
    conv_layout='NCHW',
    batchnorm_layout='NCHW',
    pooling_layout='NCHW',
    batchnorm_eps=1e-5,
    batchnorm_mom=0.9,
    fuse_bn_relu=0,
    fuse_bn_add_relu=0,
    device='cpu',
    **_,
):
    """Builds a network, with no values in its parameters yet.

    Args:
        image_shape: `(C, H, W)`, whatever the layout; C is 3, or 4 with a fourth channel that is always 0.
        device: 'cpu' or 'gpu': decides which operators there are.
        The others are the options of the same names.

    Returns:
        A `HybridBlock` from images `(N, C, H, W)` or `(N, H, W, C)`, as `input_layout` says, to float32 logits
        `(N, num_classes)`.

    Raises:
        UserError: there is no such network.
    """
    check_model_args(arch, num_layers, num_groups, num_classes, image_shape, batchnorm_eps, batchnorm_mom)
    layers = LayerKit(
        device,
        conv_layout,
        batchnorm_layout,
        pooling_layout,
        batchnorm_eps,
        batchnorm_mom,
        fuse_bn_relu,
        fuse_bn_add_relu,
    )
    architecture = ARCHITECTURES[arch]
    features, channels = architecture.make_features(
        layers, image_shape[0], num_layers=num_layers, num_groups=num_groups, **architecture.settings
    )
    return Classifier(layers, features, channels, num_classes, image_shape[0], input_layout)


def model_name(arch, num_layers):
    """What a network is called in reports: 'resnetv15-50', 'xception'."""
    return f'{arch}-{num_layers}' if ARCHITECTURES[arch].depths else arch


def initialize(net, devices):
    """Fills the parameters as the recipe says: He et al. (arXiv:1502.01852), equation 10, fan-in and Gaussian.

    Weights are drawn in canonical form: the same seed gives the same network in every layout.
    """
    # Batch norm's parameters have initial values of their own.
    net.initialize(mx.init.Zero(), ctx=devices, force_reinit=True)
    he_initializer = mx.init.Xavier(rnd_type='gaussian', factor_type='in', magnitude=2)
    weights = {}
    for name, shape in canonical_shapes(net).items():
        if name.endswith('weight'):
            weights[name] = mx.nd.empty(shape)
            he_initializer(mx.init.InitDesc(name), weights[name])
    set_canonical(net, weights)


SummaryRow = namedtuple('SummaryRow', 'name operator output_shape parameters multiply_adds')


def summarize(net, image_shape):
    """A `SummaryRow` for every operator that has parameters or pools, for one image.

    Multiply-adds are those of convolutions and the dense layer.
    """
    canonical = {param.name: name for name, param in named_parameters(net).items()}
    sizes = {
        param.name: int(np.prod(param.shape)) for param in named_parameters(net).values() if param.grad_req != 'null'
    }
    shape = image_shape if net.input_layout == 'NCHW' else (*image_shape[1:], image_shape[0])
    internals = net(mx.sym.var('data')).get_internals()
    _, output_shapes, _ = internals.infer_shape(data=(1, *shape))
    shapes = dict(zip(internals.list_outputs(), output_shapes))
    nodes = json.loads(internals.tojson())['nodes']
    rows = []
    for node in nodes:
        params = [nodes[index]['name'] for index, *_ in node['inputs'] if nodes[index]['name'] in canonical]
        if not params and node['op'] != 'Pooling':
            continue
        output_shape = next(
            shapes[name] for name in (f'{node["name"]}_output', f'{node["name"]}_output0') if name in shapes
        )
        multiply_adds = 0
        if node['op'] in ('Convolution', 'FullyConnected'):
            channels = shapes[params[0]][0]
            multiply_adds = sizes[params[0]] // channels * int(np.prod(output_shape))
        name = canonical[params[0]].rsplit('.', 1)[0] if params else ''
        parameters = sum(sizes.get(param, 0) for param in params)
        rows.append(SummaryRow(name, node['op'], output_shape, parameters, multiply_adds))
    return rows


def format_summary(rows):
    total = ('total', '', '', sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))
    table = [
        (name, operator, ' x '.join(map(str, shape)), f'{parameters:,}', f'{multiply_adds:,}')
        for name, operator, shape, parameters, multiply_adds in [*rows, total]
    ]
    headers = ('layer', 'operator', 'output', 'parameters', 'multiply-adds')
    return tabulate(table, headers, colalign=('left', 'left', 'left', 'right', 'right'), disable_numparse=True)


def main():
    parser = ArgumentParser(description='Describes a network.')
    parser.add_argument('--summary', action='store_true', help='print the layers of the network')
    parser.add_argument('--image-shape', type=comma_separated(int), default=(3, 224, 224), help='(default: 3,224,224)')
    parser.add_argument('--device', choices=('cpu', 'gpu'), default='cpu', help='(default: %(default)s)')
    add_model_args(parser)
    args = parser.parse_args()
    if not args.summary:
        parser.error('nothing to do: --summary prints the layers of the network')
    with one_line_errors():
        args.num_classes = args.num_classes or 1000
        print(format_summary(summarize(get_model(**vars(args)), args.image_shape)))


if __name__ == '__main__':
    main()
