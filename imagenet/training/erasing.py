"""Random erasing, Zhong et al. (arXiv:1708.04896), with noise as in timm's recipes (its mode `pixel`)."""

import math

import numpy as np

from imagenet.runtime.compat import mx
from imagenet.runtime.layouts import height_and_width
from imagenet.runtime.seeds import derive_seed

ERASING_STREAM = 5
# Of the box, as a share of the image.
AREA = 0.02, 1 / 3
# Of the box: height / width.
ASPECT_RATIO = 0.3, 1 / 0.3
# Boxes drawn until one fits into the image.
TRIES = 10
# The fourth channel, if there is one, stays zero.
COLORS = slice(0, 3)


class RandomErasing:
    """Replaces a box in some images by noise from a normal distribution, like the pixels of normalized images.

    The noise is drawn on the host, for the boxes alone. MXNet would draw it for complete images, which takes eight
    times as long on a CPU.

    Args:
        probability: that an image has such a box.
        layout: of the images, 'NCHW' or 'NHWC'.
        seed: the run's seed; together with the `moment`, it determines what is drawn.
    """

    def __init__(self, probability, layout, seed):
        self._probability = probability
        self._layout = layout
        self._seed = seed

    def __call__(self, images, moment):
        """Return the images, a part of which is erased; see `Mixing`."""
        random = np.random.default_rng(derive_seed(self._seed, ERASING_STREAM, *moment))
        sides = height_and_width(images.shape, self._layout)
        erased = images.copy()
        for index in np.flatnonzero(random.random(len(images)) < self._probability):
            rows, columns = draw_box(random, sides)
            # In this order for every layout, so that the numbers do not depend on it.
            noise = random.standard_normal((3, rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
            place = (COLORS, rows, columns)
            if self._layout == 'NHWC':
                noise, place = noise.transpose(1, 2, 0), (rows, columns, COLORS)
            if noise.size:
                erased[(int(index), *place)] = mx.nd.array(noise, ctx=images.context, dtype=images.dtype)
        return erased


def draw_box(random, sides):
    """Return the rows and columns of a box as slices, empty ones if no box of those drawn fits.

    Args:
        random: a NumPy `Generator`.
        sides: height and width of the image in pixels.
    """
    for _ in range(TRIES):
        area = random.uniform(*AREA) * math.prod(sides)
        ratio = math.exp(random.uniform(*map(math.log, ASPECT_RATIO)))
        size = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if size[0] < sides[0] and size[1] < sides[1]:
            begins = [int(random.integers(side - length + 1)) for side, length in zip(sides, size)]
            return tuple(slice(begin, begin + length) for begin, length in zip(begins, size))
    return slice(0, 0), slice(0, 0)
