"""The layers that architectures are written with.

A `LayerKit` is handed to every block of a network. It knows the settings that hold for the whole network (batch
normalisation, fusion of batch normalisation with ReLU) and makes the layers, so that an architecture reads like its
table in the paper. Every layer knows its number of input channels: parameter shapes never wait for data.

A fused layer and its separate operators own the same parameters under the same names.
"""

from compat import mx

nn = mx.gluon.nn


class BatchNormReLU(nn.BatchNorm):
    """Batch normalisation, then ReLU: separate operators, on any device. Input and output `(N, C, H, W)`."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return F.relu(super().hybrid_forward(F, x, gamma, beta, running_mean, running_var))


class BatchNormAddReLU(nn.BatchNorm):
    """Batch normalisation, then adding the residual, then ReLU. Inputs and output `(N, C, H, W)`."""

    def hybrid_forward(self, F, x, residual, gamma, beta, running_mean, running_var):
        return F.relu(super().hybrid_forward(F, x, gamma, beta, running_mean, running_var) + residual)


class LayerKit:
    """Makes a network's layers, all with the same settings.

    Args:
        batchnorm_eps: added to the variance.
        batchnorm_mom: the share of the old running statistics kept at each step.
        fuse_bn_relu: use oneDNN's fused BN-ReLU operator (CPU, float32).
    """

    def __init__(self, batchnorm_eps=1e-5, batchnorm_mom=0.9, fuse_bn_relu=False):
        self._norm_settings = {'epsilon': batchnorm_eps, 'momentum': batchnorm_mom}
        self._norm_relu_class = nn.BatchNormReLU if fuse_bn_relu else BatchNormReLU

    def conv(self, in_channels, channels, kernel_size, stride=1):
        """A convolution without bias, padded so that stride 1 keeps the height and width."""
        return nn.Conv2D(
            channels, kernel_size, stride, padding=kernel_size // 2, use_bias=False, in_channels=in_channels
        )

    def norm(self, channels):
        return nn.BatchNorm(in_channels=channels, **self._norm_settings)

    def norm_relu(self, channels):
        return self._norm_relu_class(in_channels=channels, **self._norm_settings)

    def norm_add_relu(self, channels, gamma_initializer='ones'):
        """Called with two arguments, `(x, residual)`."""
        return BatchNormAddReLU(in_channels=channels, gamma_initializer=gamma_initializer, **self._norm_settings)

    def max_pool(self, pool_size, stride, padding):
        return nn.MaxPool2D(pool_size, stride, padding)

    def global_average_pool(self):
        return nn.GlobalAvgPool2D()

    def sequential(self, *layers):
        sequence = nn.HybridSequential()
        sequence.add(*layers)
        return sequence
