"""The layers that architectures are written with, aware of memory layout and of fused operators.

A `LayerKit` is handed to every block of a network. It knows the settings that hold for the whole network (layouts,
batch normalization, fusion) and makes the layers, so that an architecture reads like its table in the paper. Every
layer knows its number of input channels: parameter shapes never wait for data.

Every layer says in which layout it takes and gives its images (`input_layout`, `output_layout`; None if it does not
care), and a `Sequential` transposes between two neighbours that disagree, and only there. A transpose owns no name, and
a fused layer the same parameters as its separate operators: the names of a network's parameters follow from its
architecture alone.
"""

import inspect
import logging
from collections import namedtuple

from imagenet.runtime.compat import mx
from imagenet.runtime.layouts import change_layout

nn = mx.gluon.nn


def relu(F, x):
    """As `Activation`, which oneDNN computes in its own memory format; the operator `relu` would convert back first."""
    return F.Activation(x, act_type='relu')


class Sequential(nn.HybridBlock):
    """Runs layers one after the other, transposing where neighbours disagree on the layout.

    Args:
        layers: the layers; each is registered under its position.
        input_layout: of the images that come in (default: what the first layer takes).
        output_layout: of what goes out (default: what the last layer gives).
    """

    def __init__(self, *layers, input_layout=None, output_layout=None):
        super().__init__()
        for index, layer in enumerate(layers):
            self.register_child(layer, str(index))
        self.input_layout = input_layout or layers[0].input_layout
        self.output_layout = output_layout or layers[-1].output_layout

    def __getitem__(self, index):
        return self._children[str(index)]

    def hybrid_forward(self, F, x):
        layout = self.input_layout
        for layer in self._children.values():
            x = layer(change_layout(F, x, layout, layer.input_layout or layout))
            layout = layer.output_layout or layout
        return change_layout(F, x, layout, self.output_layout)


class Convolution(nn.Conv2D):
    """A convolution without bias; its weight is (out, in, height, width), or (out, height, width, in) for NHWC."""

    def __init__(self, in_channels, channels, kernel_size, stride, padding, groups, layout):
        super().__init__(
            channels,
            kernel_size,
            stride,
            padding,
            groups=groups,
            layout=layout,
            use_bias=False,
            in_channels=in_channels,
        )
        self.input_layout = self.output_layout = layout


class ReLU(nn.HybridBlock):
    input_layout = output_layout = None

    def hybrid_forward(self, F, x):
        return relu(F, x)


class Pooling(nn.HybridBlock):
    """Pooling with any of the operator's settings, its padding not counted in averages."""

    def __init__(self, layout, **settings):
        super().__init__()
        self._settings = {'layout': layout, **settings}
        self.input_layout = self.output_layout = layout

    def hybrid_forward(self, F, x):
        return F.Pooling(x, **self._settings)


class BatchNorm(nn.BatchNorm):
    """Batch normalization over the channels, Ioffe and Szegedy (arXiv:1502.03167)."""

    def __init__(self, channels, layout, **settings):
        super().__init__(axis=layout.index('C'), in_channels=channels, **settings)
        self.input_layout = self.output_layout = layout


class BatchNormReLU(BatchNorm):
    """Batch normalization, then ReLU: separate operators, on any device."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return relu(F, super().hybrid_forward(F, x, gamma, beta, running_mean, running_var))


class OneDNNBatchNormReLU(BatchNorm):
    """Both in one operator of oneDNN's: CPU, float32, NCHW."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return F.contrib.BatchNormWithReLU(x, gamma, beta, running_mean, running_var, name='fwd', **self._kwargs)


class CuDNNBatchNormReLU(BatchNorm):
    """Both in one operator of NVIDIA's container build of MXNet."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return F.BatchNorm(x, gamma, beta, running_mean, running_var, act_type='relu', name='fwd', **self._kwargs)


class BatchNormAddReLU(BatchNorm):
    """Batch normalization, then adding the residual, then ReLU: separate operators. Called with `(x, residual)`."""

    def hybrid_forward(self, F, x, residual, gamma, beta, running_mean, running_var):
        return relu(F, super().hybrid_forward(F, x, gamma, beta, running_mean, running_var) + residual)


class CuDNNBatchNormAddReLU(BatchNorm):
    """All three in one operator of NVIDIA's container build of MXNet. Called with `(x, residual)`."""

    def hybrid_forward(self, F, x, residual, gamma, beta, running_mean, running_var):
        return F.BatchNormAddRelu(
            data=x,
            gamma=gamma,
            beta=beta,
            moving_mean=running_mean,
            moving_var=running_var,
            addend=residual,
            name='fwd',
            **self._kwargs,
        )


FusedLayers = namedtuple('FusedLayers', 'norm_relu norm_add_relu')


def find_fused_layers(device, operators=mx.sym):
    """The fused layers that this MXNet has for a device, None if it has none.

    Args:
        device: 'cpu' or 'gpu'.
        operators: the namespace of MXNet's operators.
    """
    if device == 'cpu':
        return FusedLayers(OneDNNBatchNormReLU, None)
    takes_activation = 'act_type' in inspect.signature(operators.BatchNorm).parameters
    return FusedLayers(
        CuDNNBatchNormReLU if takes_activation else None,
        CuDNNBatchNormAddReLU if hasattr(operators, 'BatchNormAddRelu') else None,
    )


def choose_layer(is_wanted, fused, separate, option):
    """The fused layer where it is wanted and there is one; if there is none, the log says what is used instead."""
    if is_wanted and fused is None:
        logging.getLogger('imagenet').info(
            '%s 1: this MXNet has no such operator for this device; separate ones compute the same', option
        )
    return fused if is_wanted and fused else separate


def computed_layouts(device, *layouts):
    """The layouts that a network is built in, from those that were asked for.

    On a CPU, MXNet has no NHWC convolution, and its NHWC batch norm ends the process where a network in NCHW has run
    before (oneDNN's primitives for both are kept under one key). There every network is built in NCHW, which is the
    same function of the same parameters and needs at most one transpose, of its input.
    """
    return ('NCHW',) * len(layouts) if device == 'cpu' else layouts


class LayerKit:
    """Makes a network's layers, all with the same settings.

    Args:
        device: 'cpu' or 'gpu': what the network is built for.
        conv_layout, batchnorm_layout, pooling_layout: 'NCHW' or 'NHWC'.
        batchnorm_eps: added to the variance.
        batchnorm_mom: the share of the old running statistics kept at each step.
        fuse_bn_relu, fuse_bn_add_relu: use fused operators where MXNet has them.
    """

    def __init__(
        self,
        device,
        conv_layout,
        batchnorm_layout,
        pooling_layout,
        batchnorm_eps,
        batchnorm_mom,
        fuse_bn_relu,
        fuse_bn_add_relu,
    ):
        layouts = computed_layouts(device, conv_layout, batchnorm_layout, pooling_layout)
        self.conv_layout, self.batchnorm_layout, self.pooling_layout = layouts
        self._norm_settings = {
            'layout': self.batchnorm_layout,
            'epsilon': batchnorm_eps,
            'momentum': batchnorm_mom,
        }
        fused = find_fused_layers(device)
        self._norm_relu = choose_layer(fuse_bn_relu, fused.norm_relu, BatchNormReLU, '--fuse-bn-relu')
        self._norm_add_relu = choose_layer(
            fuse_bn_add_relu, fused.norm_add_relu, BatchNormAddReLU, '--fuse-bn-add-relu'
        )

    def conv(self, in_channels, channels, kernel_size, stride=1, padding=None, groups=1):
        """A convolution; padded so that stride 1 keeps the height and width, unless told otherwise."""
        padding = kernel_size // 2 if padding is None else padding
        return Convolution(in_channels, channels, kernel_size, stride, padding, groups, self.conv_layout)

    def separable_conv(self, in_channels, channels):
        """A 3x3 convolution of each channel by itself, then a 1x1 convolution."""
        return self.sequential(
            self.conv(in_channels, in_channels, 3, groups=in_channels),
            self.conv(in_channels, channels, 1),
        )

    def relu(self):
        return ReLU()

    def norm(self, channels, **settings):
        return BatchNorm(channels, **self._norm_settings, **settings)

    def norm_relu(self, channels, groups=1):
        """Batch normalization and ReLU, before or behind a convolution of so many groups."""
        # oneDNN has no backward pass of the fused operator in the memory formats of a grouped convolution (AVX-512).
        is_fusible = groups == 1 or self._norm_relu is not OneDNNBatchNormReLU
        layer = self._norm_relu if is_fusible else BatchNormReLU
        return layer(channels, **self._norm_settings)

    def norm_add_relu(self, channels, **settings):
        return self._norm_add_relu(channels, **self._norm_settings, **settings)

    def max_pool(self, size, stride, padding):
        settings = {'kernel': (size, size), 'stride': (stride, stride), 'pad': (padding, padding)}
        return Pooling(self.pooling_layout, pool_type='max', **settings)

    def global_average_pool(self):
        return Pooling(self.pooling_layout, pool_type='avg', global_pool=True, kernel=(1, 1))

    def sequential(self, *layers, **layouts):
        return Sequential(*layers, **layouts)

    def projection(self, in_channels, channels, stride):
        """A shortcut's 1x1 convolution and batch norm if a block changes the shape, else None."""
        if stride == 1 and in_channels == channels:
            return None
        return self.sequential(
            self.conv(in_channels, channels, 1, stride), self.norm(channels), input_layout=self.batchnorm_layout
        )
