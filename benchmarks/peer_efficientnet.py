"""EfficientNet-B0 and Lite0 in PyTorch, with modules arranged to match this package's parameter names."""

from torch import nn

# Kernel size, stride of the first block, expansion, channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
BATCHNORM = {'eps': 1e-3, 'momentum': 0.01}


def conv_norm(in_channels, channels, kernel_size=1, stride=1, groups=1):
    conv = nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels, **BATCHNORM)]


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, squeezed, activation):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            activation(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.gate(x)


class MBConv(nn.Module):
    def __init__(self, in_channels, channels, kernel_size, stride, expansion, activation, has_gate):
        super().__init__()
        expanded = in_channels * expansion
        body = [] if expansion == 1 else [*conv_norm(in_channels, expanded), activation(inplace=True)]
        body += [*conv_norm(expanded, expanded, kernel_size, stride, expanded), activation(inplace=True)]
        if has_gate:
            body.append(SqueezeExcitation(expanded, in_channels // 4, activation))
        self.body = nn.Sequential(*body, *conv_norm(expanded, channels))
        self.is_residual = stride == 1 and in_channels == channels

    def forward(self, x):
        return x + self.body(x) if self.is_residual else self.body(x)


class EfficientNet(nn.Module):
    def __init__(self, activation, has_gate):
        super().__init__()
        features, in_channels = [*conv_norm(3, 32, 3, 2), activation(inplace=True)], 32
        for kernel_size, first_stride, expansion, channels, num_blocks in STAGES:
            blocks = []
            for stride in (first_stride, *(1,) * (num_blocks - 1)):
                blocks.append(MBConv(in_channels, channels, kernel_size, stride, expansion, activation, has_gate))
                in_channels = channels
            features.append(nn.Sequential(*blocks))
        features += [*conv_norm(in_channels, 1280), activation(inplace=True), nn.AdaptiveAvgPool2d(1)]
        self.features = nn.Sequential(*features)
        self.output = nn.Linear(1280, 1000)

    def forward(self, x):
        return self.output(self.features(x).flatten(1))


def efficientnet_b0():
    return EfficientNet(nn.SiLU, has_gate=True)


def efficientnet_lite0():
    return EfficientNet(nn.ReLU6, has_gate=False)
