"""A network: the features of an architecture, then one dense layer."""

from imagenet.runtime.compat import mx


class Classifier(mx.gluon.HybridBlock):
    """Maps images to float32 logits `(N, num_classes)`: features, then one dense layer.

    Args:
        features: the layers.
        channels: the number of channels of the features.
        dropout: the share of the features that are replaced by 0 in training; Srivastava et al. (JMLR 15, 2014).
        initializer: the function in initialization.py that draws the initial weights.

    Attributes:
        weight_layout: 'NCHW' if convolution weights are (out, in, height, width), 'NHWC' if `in` comes last.
        input_channels: 3 or 4.
        input_layout: layout of the images.
    """

    def __init__(self, layers, features, channels, num_classes, input_channels, input_layout, dropout, initializer):
        super().__init__()
        self.weight_layout = layers.conv_layout
        self.input_channels = input_channels
        self.input_layout = input_layout
        self.initializer = initializer
        self._dropout = dropout
        self.features = layers.sequential(*features, input_layout=input_layout)
        self.output = mx.gluon.nn.Dense(num_classes, in_units=channels)

    def hybrid_forward(self, F, x):
        return self.classify(F, self.features(x))

    def classify(self, F, features):
        """Return the logits of features, arrays or symbols."""
        if self._dropout:
            features = F.Dropout(features, p=self._dropout, cudnn_off=True)
        return self.output(features).astype('float32')
