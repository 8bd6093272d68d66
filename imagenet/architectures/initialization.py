"""Initial weights: functions of a canonical name and shape that return an array."""

from imagenet.runtime.compat import mx

IMAGENET_CLASSES = 1000


def he_fan_in(name, shape):
    """He et al. (arXiv:1502.01852), equation 10: Gaussian, with a variance of 2 over the number of inputs."""
    return _drawn(mx.init.Xavier(rnd_type='gaussian', factor_type='in', magnitude=2), name, shape)


def fan_out(name, shape):
    """Gaussian, with a variance of 2 over the number of outputs; uniform in the dense layer.

    This is how the authors of EfficientNet initialize it: https://github.com/tensorflow/tpu, efficientnet_model.py.
    With fewer classes than ImageNet's, their rule would give the dense layer such large weights that a loss far above
    that of chance hides the features for epochs; its weights are then those of 1000 classes.
    """
    if len(shape) == 2:
        return _drawn(mx.init.Uniform(max(shape[0], IMAGENET_CLASSES) ** -0.5), name, shape)
    # Each channel of a depthwise convolution has one output.
    is_depthwise = shape[1] == 1
    factor_type = 'in' if is_depthwise else 'out'
    return _drawn(mx.init.Xavier(rnd_type='gaussian', factor_type=factor_type, magnitude=2), name, shape)


def _drawn(initializer, name, shape):
    values = mx.nd.empty(shape)
    initializer(mx.init.InitDesc(name), values)
    return values
