"""MXNet as an engine; see engines.py."""

from imagenet.input_pipeline.transforms import as_network_input
from imagenet.runtime.compat import mx


class MXNetEngine:
    """A network of MXNet, of any form, on a device.

    Args:
        net: the network, also an attribute.
        form: its `InputForm`.
    """

    def __init__(self, net, form, device):
        self.net = net
        self._form = form
        self._device = device

    def start(self, images):
        """Start to compute the logits of images `(N, 3, H, W)`; return a function that waits for them."""
        return self.net(as_network_input(mx.nd.array(images, ctx=self._device), self._form)).asnumpy
