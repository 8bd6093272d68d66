"""Reference implementations of the architectures in plain MXNet operators, which models.py is compared with.

Written from the papers' tables and the parameters' names. They use nothing from layers.py or models.py.
"""

from imagenet.runtime.compat import mx

EPSILON = 1e-5
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


# EfficientNet's stages: stride of the first block, expansion, blocks.
MBCONV_STAGES = ((1, 1, 1), (2, 6, 2), (2, 6, 2), (2, 6, 3), (1, 6, 3), (2, 6, 4), (1, 6, 1))


def pad_as_tensorflow(x, kernel, stride):
    """Pad images with zeros as for a convolution with padding='SAME' in TensorFlow."""
    widths = [0, 0, 0, 0]
    for length in x.shape[2:]:
        rest = length % stride
        total = max(kernel - (rest if rest else stride), 0)
        widths += [total // 2, total - total // 2]
    return mx.nd.pad(x, mode='constant', pad_width=widths)


def average_pairs(x, axis):
    """Average neighbors along an axis. The last one of an odd number stays as it is."""
    last = [mx.nd.slice_axis(x, axis=axis, begin=-1, end=None)] * (x.shape[axis] % 2)
    even = mx.nd.concat(x, *last, dim=axis)
    first, second = (mx.nd.take(even, mx.nd.arange(start, even.shape[axis], 2), axis=axis) for start in (0, 1))
    return (first + second) / 2


def relu6(x):
    return mx.nd.minimum(mx.nd.maximum(x, 0), 6)


def swish(x):
    return x / (1 + mx.nd.exp(-x))


class Reference:
    """Evaluates a network in inference mode from canonical arrays by name."""

    def __init__(self, arrays, padding='symmetric'):
        self.arrays = arrays
        self.padding = padding
        self.epsilon = EPSILON

    def conv(self, x, name, stride=1, pad=None, groups=1):
        weight = self.arrays[f'{name}.weight']
        bias = self.arrays.get(f'{name}.bias')
        kernel = weight.shape[2:]
        pad = kernel[0] // 2 if pad is None else pad
        if self.padding == 'same':
            x, pad = pad_as_tensorflow(x, kernel[0], stride), 0
        return mx.nd.Convolution(
            x, weight, bias, kernel=kernel, stride=(stride, stride), pad=(pad, pad), num_filter=weight.shape[0],
            num_group=groups, no_bias=bias is None,
        )  # fmt: skip

    def norm(self, x, name):
        gamma, beta, mean, variance = (
            self.arrays[f'{name}.{leaf}'].reshape((1, -1, 1, 1))
            for leaf in ('gamma', 'beta', 'running_mean', 'running_var')
        )
        return mx.nd.broadcast_add(
            mx.nd.broadcast_mul(mx.nd.broadcast_sub(x, mean), gamma / mx.nd.sqrt(variance + self.epsilon)), beta
        )

    def norm_relu(self, x, name):
        return mx.nd.relu(self.norm(x, name))

    def classify(self, x):
        pooled = mx.nd.mean(x, axis=(2, 3))
        return mx.nd.dot(pooled, self.arrays['output.weight'].T) + self.arrays['output.bias']

    def residual_network(self, x, num_layers, stride_on_3x3, groups=1, stem_convs=1, averages=False):
        for place in range(0, 2 * stem_convs, 2):
            x = self.norm_relu(self.conv(x, f'features.{place}', 1 if place else 2), f'features.{place + 1}')
        x = mx.nd.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max')
        for stage, num_blocks in enumerate(BLOCKS[num_layers]):
            for block in range(num_blocks):
                name = f'features.{2 * stem_convs + 1 + stage}.{block}'
                stride = 2 if stage > 0 and block == 0 else 1
                if num_layers < 50:
                    y = self.norm_relu(self.conv(x, f'{name}.body.0', stride), f'{name}.body.1')
                    y = self.conv(y, f'{name}.body.2')
                else:
                    strides = (1, stride) if stride_on_3x3 else (stride, 1)
                    y = self.norm_relu(self.conv(x, f'{name}.body.0', strides[0]), f'{name}.body.1')
                    y = self.norm_relu(self.conv(y, f'{name}.body.2', strides[1], groups=groups), f'{name}.body.3')
                    y = self.conv(y, f'{name}.body.4')
                shortcut, place = x, 0
                if averages and stride == 2:
                    shortcut, stride, place = average_pairs(average_pairs(x, 2), 3), 1, 1
                if f'{name}.downsample.{place}.weight' in self.arrays:
                    shortcut = self.conv(shortcut, f'{name}.downsample.{place}', stride)
                    shortcut = self.norm(shortcut, f'{name}.downsample.{place + 1}')
                x = mx.nd.relu(self.norm(y, f'{name}.bn_add_relu') + shortcut)
        return self.classify(x)

    def separable(self, x, name):
        return self.conv(self.conv(x, f'{name}.0', groups=x.shape[1]), f'{name}.1')

    def xception(self, x):
        x = self.norm_relu(self.conv(x, 'features.0', 2, pad=0), 'features.1')
        x = self.norm_relu(self.conv(x, 'features.2', pad=0), 'features.3')
        # (place in features, number of separable convolutions, whether the block halves the image)
        for place, count, halves in [(4, 2, True), (5, 2, True), (6, 2, True), *((n, 3, False) for n in range(7, 15)),
                                     (15, 2, True)]:  # fmt: skip
            name = f'features.{place}'
            starts_with_relu = place > 4
            y = mx.nd.relu(x) if starts_with_relu else x
            position = int(starts_with_relu)
            for index in range(count):
                y = self.norm(self.separable(y, f'{name}.body.{position}'), f'{name}.body.{position + 1}')
                y = mx.nd.relu(y) if index < count - 1 else y
                position += 2
            if halves:
                y = mx.nd.Pooling(y, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max')
                x = self.norm(self.conv(x, f'{name}.shortcut.0', 2), f'{name}.shortcut.1')
            x = x + y
        x = self.norm_relu(self.separable(x, 'features.16'), 'features.17')
        return self.classify(self.norm_relu(self.separable(x, 'features.18'), 'features.19'))

    def efficientnet(self, x, activation):
        x = activation(self.norm(self.conv(x, 'features.0', 2), 'features.1'))
        for stage, (first_stride, expansion, blocks) in enumerate(MBCONV_STAGES):
            for block in range(blocks):
                body = f'features.{stage + 3}.{block}.body'
                y, place = x, 0
                if expansion > 1:
                    y, place = activation(self.norm(self.conv(y, f'{body}.0'), f'{body}.1')), 3
                stride = first_stride if block == 0 else 1
                y = self.norm(self.conv(y, f'{body}.{place}', stride, groups=y.shape[1]), f'{body}.{place + 1}')
                y, place = activation(y), place + 3
                if f'{body}.{place}.gate.1.weight' in self.arrays:
                    means = mx.nd.mean(y, axis=(2, 3), keepdims=True)
                    gate = self.conv(activation(self.conv(means, f'{body}.{place}.gate.1')), f'{body}.{place}.gate.3')
                    y, place = mx.nd.broadcast_mul(y, 1 / (1 + mx.nd.exp(-gate))), place + 1
                y = self.norm(self.conv(y, f'{body}.{place}'), f'{body}.{place + 1}')
                x = x + y if block > 0 else y
        return self.classify(activation(self.norm(self.conv(x, 'features.10'), 'features.11')))

    def logits(self, x, arch, num_layers=50, num_groups=32):
        if arch.startswith('efficientnet'):
            self.epsilon = 1e-3
            return self.efficientnet(x, relu6 if 'lite' in arch else swish)
        if arch == 'xception':
            return self.xception(x)
        groups = num_groups if arch.startswith('resnext') else 1
        stem_convs = 3 if arch[-1] in 'cds' else 1
        return self.residual_network(x, num_layers, not arch.endswith('v1'), groups, stem_convs, arch.endswith('d'))
