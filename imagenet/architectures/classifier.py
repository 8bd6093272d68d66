"""A network: the features of an architecture, then one dense layer."""

from imagenet.runtime.compat import mx
from imagenet.runtime.layouts import change_layout


class Classifier(mx.gluon.HybridBlock):
    """Maps images to float32 logits `(N, num_classes)`: features, then one dense layer.

    Attributes:
        weight_layout: 'NCHW' if convolution weights are (out, in, height, width), 'NHWC' if `in` comes last.
        input_channels: 3 or 4.
        input_layout: layout of the images.
    """

    def __init__(self, layers, features, channels, num_classes, input_channels, input_layout):
        super().__init__()
        self.weight_layout = layers.conv_layout
        self.input_channels = input_channels
        self.input_layout = input_layout
        self.features = layers.sequential(*features)
        self.output = mx.gluon.nn.Dense(num_classes, in_units=channels)

    def hybrid_forward(self, F, x):
        x = change_layout(F, x, self.input_layout, self.features.input_layout)
        return self.output(self.features(x)).astype('float32')
