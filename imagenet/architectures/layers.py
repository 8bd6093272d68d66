"""The layers that architectures are built from. They handle memory layouts and fused operators.

Every block of a network receives a `LayerKit`. It holds the settings of the network (layouts, batch normalization,
fusion) and creates the layers, so an architecture reads like its table in the paper. Every layer knows its number of
input channels, so parameter shapes never depend on data.

Every layer declares the layout of its input and output (`input_layout`, `output_layout`; None if it works with any).
A `Sequential` transposes only between neighbors that disagree. Transposes have no names, and a fused layer has the same
parameters as its separate operators, so the names of a network's parameters depend only on its architecture.
"""

import inspect
import logging
from collections import namedtuple

from imagenet.runtime.compat import mx
from imagenet.runtime.layouts import change_layout

nn = mx.gluon.nn


def relu(F, x):
    """Return the ReLU of `x`.

    oneDNN computes `Activation` in its own memory format; the operator `relu` would convert back first.
    """
    return F.Activation(x, act_type='relu')


def relu6(F, x):
    """Return the ReLU of `x`, at most 6."""
    return F.clip(x, 0, 6)


def sigmoid(F, x):
    return F.Activation(x, act_type='sigmoid')


def swish(F, x):
    """Return x * sigmoid(x), also called SiLU: Ramachandran et al. (arXiv:1710.05941)."""
    return x * sigmoid(F, x)


class Sequential(nn.HybridBlock):
    """Runs layers one after the other and transposes between neighbors that disagree on the layout.

    Args:
        layers: the layers; each is registered under its position.
        input_layout: layout of the input (default: the first layer's).
        output_layout: layout of the output (default: the last layer's).
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
    """A convolution. Its weight is (out, in, height, width), or (out, height, width, in) for NHWC.

    Args:
        paddings: (before, after) of the height and of the width; never less after than before.

    MXNet pads the same before and after. If there is less padding before, the weight gets zeros there instead.
    """

    def __init__(self, in_channels, channels, kernel_size, stride, paddings, groups, use_bias, layout):
        super().__init__(
            channels,
            kernel_size,
            stride,
            [after for _, after in paddings],
            groups=groups,
            layout=layout,
            use_bias=use_bias,
            in_channels=in_channels,
        )
        self.input_layout = self.output_layout = layout
        self._zeros = [after - before for before, after in paddings]
        self._kwargs['kernel'] = tuple(kernel_size + zeros for zeros in self._zeros)

    def pad_like(self, other):
        """Take the paddings of another convolution."""
        self._kwargs.update({name: other._kwargs[name] for name in ('kernel', 'pad')})
        self._zeros = other._zeros

    def hybrid_forward(self, F, x, weight, bias=None):
        return super().hybrid_forward(F, x, self._extended(F, weight), bias)

    def _extended(self, F, weight):
        """Return the weight with zeros before its height and width, if it needs them."""
        rows, columns = self._zeros
        if not (rows or columns):
            return weight
        if self._kwargs['layout'] == 'NCHW':
            return F.Pad(weight, mode='constant', pad_width=(0, 0, 0, 0, rows, 0, columns, 0))
        # MXNet pads only the last two axes.
        channels, height, width, inputs = self.weight.shape
        weight = F.reshape(weight, (channels, 1, height, width * inputs))
        weight = F.Pad(weight, mode='constant', pad_width=(0, 0, 0, 0, rows, 0, columns * inputs, 0))
        return F.reshape(weight, (channels, height + rows, width + columns, inputs))


def convolutions_of(net):
    """Return the `Convolution`s of a network in order."""
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, Convolution) else None)
    return found


class Activation(nn.HybridBlock):
    """Applies a function of (operators, array) to each value."""

    input_layout = output_layout = None

    def __init__(self, function):
        super().__init__()
        self._function = function

    def hybrid_forward(self, F, x):
        return self._function(F, x)


class DropConnect(nn.HybridBlock):
    """In training, replaces some examples by 0, and divides the others by the share of examples that are kept.

    Also called stochastic depth: Huang et al. (arXiv:1603.09382).

    Args:
        rate: the probability of 0.
    """

    input_layout = output_layout = None

    def __init__(self, rate):
        super().__init__()
        self._rate = rate

    def hybrid_forward(self, F, x):
        return F.Dropout(x, p=self._rate, axes=(1, 2, 3), cudnn_off=True) if self._rate else x


class Pooling(nn.HybridBlock):
    """Pooling with any of the operator's settings."""

    def __init__(self, layout, **settings):
        super().__init__()
        self._settings = {'layout': layout, **settings}
        self.input_layout = self.output_layout = layout

    def hybrid_forward(self, F, x):
        return F.Pooling(x, **self._settings)


class BatchNorm(nn.BatchNorm):
    """Batch normalization over the channels (Ioffe and Szegedy, arXiv:1502.03167)."""

    def __init__(self, channels, layout, **settings):
        super().__init__(axis=layout.index('C'), in_channels=channels, **settings)
        self.input_layout = self.output_layout = layout


class BatchNormReLU(BatchNorm):
    """Batch normalization, then ReLU, as separate operators. Runs on any device."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return relu(F, super().hybrid_forward(F, x, gamma, beta, running_mean, running_var))


class OneDNNBatchNormReLU(BatchNorm):
    """Batch normalization and ReLU in one oneDNN operator: CPU, float32, NCHW."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return F.contrib.BatchNormWithReLU(x, gamma, beta, running_mean, running_var, name='fwd', **self._kwargs)


class CuDNNBatchNormReLU(BatchNorm):
    """Batch normalization and ReLU in one operator of NVIDIA's container build of MXNet."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return F.BatchNorm(x, gamma, beta, running_mean, running_var, act_type='relu', name='fwd', **self._kwargs)


class BatchNormAddReLU(BatchNorm):
    """Batch normalization, adding the residual, then ReLU, as separate operators. Called with `(x, residual)`.

    Args:
        drop_connect: the rate of `DropConnect` between batch normalization and addition.
    """

    def __init__(self, channels, layout, drop_connect=0, **settings):
        super().__init__(channels, layout, **settings)
        self._drop_connect = DropConnect(drop_connect)

    def hybrid_forward(self, F, x, residual, gamma, beta, running_mean, running_var):
        normalized = super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)
        return relu(F, self._drop_connect(normalized) + residual)


class CuDNNBatchNormAddReLU(BatchNorm):
    """The same in one operator of NVIDIA's container build of MXNet. Called with `(x, residual)`."""

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
    """Return the fused layers that this MXNet has for a device; a field is None if there is no such layer.

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
    """Return the fused layer if it is requested and available, else the separate one; log if it is unavailable."""
    if is_wanted and fused is None:
        logging.getLogger('imagenet').info(
            '%s 1: this MXNet has no such operator for this device; separate operators compute the same', option
        )
    return fused if is_wanted and fused else separate


def computed_layouts(device, *layouts):
    """Return the layouts in which a network is built, given the requested ones.

    On a CPU, MXNet has no NHWC convolution, and its NHWC batch norm terminates the process if a network in NCHW ran
    before (oneDNN's primitives for both share a cache key). So every network on a CPU is built in NCHW. This is the
    same function of the same parameters and needs at most one transpose, of the input.
    """
    return ('NCHW',) * len(layouts) if device == 'cpu' else layouts


class LayerKit:
    """Creates a network's layers, all with the same settings.

    Args:
        device: 'cpu' or 'gpu', which the network is built for.
        conv_layout, batchnorm_layout, pooling_layout: 'NCHW' or 'NHWC'.
        batchnorm_eps: added to the variance.
        batchnorm_mom: the share of the old running statistics that each step keeps.
        drop_connect: the rate at which `DropConnect` would drop a branch behind the last block.
        fuse_bn_relu, fuse_bn_add_relu: use fused operators if MXNet has them.
        freeze_batchnorm: normalize with the running statistics in training as well, and leave them as they are.
    """

    def __init__(
        self,
        device,
        conv_layout,
        batchnorm_layout,
        pooling_layout,
        batchnorm_eps,
        batchnorm_mom,
        drop_connect,
        fuse_bn_relu,
        fuse_bn_add_relu,
        freeze_batchnorm,
    ):
        layouts = computed_layouts(device, conv_layout, batchnorm_layout, pooling_layout)
        self.conv_layout, self.batchnorm_layout, self.pooling_layout = layouts
        self._norm_settings = {
            'layout': self.batchnorm_layout,
            'epsilon': batchnorm_eps,
            'momentum': batchnorm_mom,
            'use_global_stats': freeze_batchnorm,
        }
        self._drop_connect = drop_connect
        fused = find_fused_layers(device)
        self._norm_relu = choose_layer(fuse_bn_relu, fused.norm_relu, BatchNormReLU, '--fuse-bn-relu')
        self._norm_add_relu = choose_layer(
            fuse_bn_add_relu, fused.norm_add_relu, BatchNormAddReLU, '--fuse-bn-add-relu'
        )

    def conv(self, in_channels, channels, kernel_size, stride=1, paddings=None, groups=1, use_bias=False):
        """Return a `Convolution`. By default, the padding keeps the height and width at stride 1."""
        paddings = [(kernel_size // 2, kernel_size // 2)] * 2 if paddings is None else paddings
        return Convolution(in_channels, channels, kernel_size, stride, paddings, groups, use_bias, self.conv_layout)

    def separable_conv(self, in_channels, channels):
        """Return a 3x3 depthwise convolution followed by a 1x1 convolution."""
        return self.sequential(
            self.conv(in_channels, in_channels, 3, groups=in_channels),
            self.conv(in_channels, channels, 1),
        )

    def relu(self):
        return Activation(relu)

    def relu6(self):
        return Activation(relu6)

    def sigmoid(self):
        return Activation(sigmoid)

    def swish(self):
        return Activation(swish)

    def drop_connect(self, depth):
        """Return a layer for the end of a block's branch, before the shortcut is added.

        Args:
            depth: where the block is, from 0 for the first one to nearly 1 for the last. The rate grows with it.
        """
        return DropConnect(self._drop_connect * depth)

    def norm(self, channels, **settings):
        return BatchNorm(channels, **self._norm_settings, **settings)

    def norm_relu(self, channels, groups=1):
        """Return batch normalization and ReLU, for use before or after a convolution with this many groups."""
        # oneDNN's fused operator has no backward pass in the memory formats of a grouped convolution (AVX-512).
        is_fusible = groups == 1 or self._norm_relu is not OneDNNBatchNormReLU
        layer = self._norm_relu if is_fusible else BatchNormReLU
        return layer(channels, **self._norm_settings)

    def norm_add_relu(self, channels, depth, **settings):
        """Return batch normalization, `drop_connect(depth)`, addition and ReLU."""
        if self._drop_connect:
            # The fused operator has no place for it.
            settings['drop_connect'] = self._drop_connect * depth
            return BatchNormAddReLU(channels, **self._norm_settings, **settings)
        return self._norm_add_relu(channels, **self._norm_settings, **settings)

    def max_pool(self, size, stride, padding):
        settings = {'kernel': (size, size), 'stride': (stride, stride), 'pad': (padding, padding)}
        return Pooling(self.pooling_layout, pool_type='max', **settings)

    def average_pool(self, size, stride):
        """Return average pooling without padding. At the end of an axis, a window may have fewer pixels."""
        # `count_include_pad` divides all windows by the same number, in gradients, int8 and ONNX.
        settings = {'pooling_convention': 'full', 'count_include_pad': False}
        return Pooling(self.pooling_layout, pool_type='avg', kernel=(size, size), stride=(stride, stride), **settings)

    def global_average_pool(self):
        return Pooling(self.pooling_layout, pool_type='avg', global_pool=True, kernel=(1, 1))

    def sequential(self, *layers, **layouts):
        return Sequential(*layers, **layouts)

    def projection(self, in_channels, channels, stride):
        """Return a shortcut's 1x1 convolution and batch norm if a block changes the shape, else None."""
        if stride == 1 and in_channels == channels:
            return None
        return self.sequential(
            self.conv(in_channels, channels, 1, stride), self.norm(channels), input_layout=self.batchnorm_layout
        )

    def averaging_projection(self, in_channels, channels, stride):
        """Return a `projection` that averages pixels where the convolution's stride would leave them out."""
        if stride == 1:
            return self.projection(in_channels, channels, stride)
        return self.sequential(
            self.average_pool(stride, stride),
            self.conv(in_channels, channels, 1),
            self.norm(channels),
            input_layout=self.batchnorm_layout,
        )
