"""A network: the features of an architecture, then one dense layer."""

from imagenet.architectures.layers import convolutions_of
from imagenet.runtime.compat import mx


class Classifier(mx.gluon.HybridBlock):
    """Maps images to float32 logits `(N, num_classes)`: features, then one dense layer.

    Args:
        features: the layers.
        channels: the number of channels of the features.
        image_shape: `(C, H, W)` of the images that the features are for.
        dropout: the share of the features that are replaced by 0 in training; Srivastava et al. (JMLR 15, 2014).
        initializer: the function in initialization.py that draws the initial weights.

    Attributes:
        weight_layout: 'NCHW' if convolution weights are (out, in, height, width), 'NHWC' if `in` comes last.
        input_channels: 3 or 4.
        image_size: (height, width) of the images that it is prepared for.
        input_layout: layout of the images.
    """

    def __init__(self, layers, features, channels, num_classes, image_shape, input_layout, dropout, initializer):
        super().__init__()
        self.weight_layout = layers.conv_layout
        self.input_channels, self.image_size = image_shape[0], tuple(image_shape[1:])
        self.input_layout = input_layout
        self.initializer = initializer
        self._dropout = dropout
        self.features = layers.sequential(*features, input_layout=input_layout)
        self.output = mx.gluon.nn.Dense(num_classes, in_units=channels)

    def take_paddings(self, other):
        """Pad as another network of the same architecture, which is built for images of another size."""
        for layer, model in zip(convolutions_of(self), convolutions_of(other)):
            layer.pad_like(model)
        self.image_size = other.image_size

    def hybrid_forward(self, F, x):
        return self.classify(F, self.features(x))

    def classify(self, F, features):
        """Return the logits of features, arrays or symbols."""
        if self._dropout:
            features = F.Dropout(features, p=self._dropout, cudnn_off=True)
        return self.output(features).astype('float32')
