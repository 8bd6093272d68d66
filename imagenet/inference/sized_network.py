"""Networks of a fixed batch size, for engines that compute those faster."""

import numpy as np

from imagenet.runtime.threads import run_on_all_cores


class SizedNetwork:
    """A network that is compiled for batches of one size: that of the latest batch.

    A batch that is a little smaller, such as one with an unreadable image, is filled up; for another size, the network
    is compiled again.

    Args:
        compile_for: a function from a batch size to the compiled network.
    """

    def __init__(self, compile_for):
        self._compile_for = compile_for
        self._compiled = None
        self._size = 0

    def prepare(self, images):
        """Return the compiled network and its batch, whose first images are these, `(N, 3, H, W)`."""
        count = len(images)
        if not self._size / 2 < count <= self._size:
            # The threads of the compiled network inherit the cores of this one.
            run_on_all_cores()
            # Two at a time would need twice the memory.
            self._compiled, self._size = None, count
            self._compiled = self._compile_for(count)
        if count < self._size:
            images = np.concatenate([images, np.zeros((self._size - count, *images.shape[1:]), images.dtype)])
        return self._compiled, images
