"""CutMix, Yun et al. (arXiv:1905.04899)."""

import numpy as np

from imagenet.runtime.compat import mx
from imagenet.runtime.layouts import height_and_width
from imagenet.runtime.seeds import derive_seed
from imagenet.training.losses import Targets
from imagenet.training.mixup import blend

CUTMIX_STREAM = 4


class CutMix:
    """Replaces a box of each image by the same box of another one, and mixes their labels by its area; section 3.1.

    Args:
        alpha: the share of an image that the box leaves is drawn from Beta(alpha, alpha), one per image.
        layout: of the images, 'NCHW' or 'NHWC'.
        seed: the run's seed; together with the `moment`, it determines what is drawn.
    """

    def __init__(self, alpha, layout, seed):
        self._alpha = alpha
        self._layout = layout
        self._seed = seed
        self._weights, self._blend = (mx.gluon.nn.HybridLambda(function) for function in (_weights, _mix))
        for block in (self._weights, self._blend):
            block.hybridize(static_alloc=True, static_shape=True)

    def __call__(self, images, labels, moment):
        """Return the mixed images and their `Targets`; see `Mixing`."""
        random = np.random.RandomState(derive_seed(self._seed, CUTMIX_STREAM, *moment))
        sides = height_and_width(images.shape, self._layout)
        shares = random.beta(self._alpha, self._alpha, size=len(labels))
        boxes = draw_boxes(random, shares, sides)
        partners = random.permutation(len(labels))
        boxes, shares, partners = (
            mx.nd.array(values, ctx=images.context, dtype='float32')
            for values in (boxes, uncovered_shares(boxes, sides), partners)
        )
        rows, columns = (mx.nd.arange(side, ctx=images.context) for side in sides)
        weights = self._weights(boxes, rows, columns).expand_dims(1 if self._layout == 'NCHW' else 3)
        mixed, partner_labels = self._blend(images, labels, partners, weights.astype(images.dtype, copy=False))
        return mixed, Targets(labels, partner_labels, shares)


def draw_boxes(random, shares, sides):
    """Draw boxes that leave the given shares of an image, with centers anywhere, and clip them at its borders.

    Args:
        random: a NumPy `RandomState`.
        shares: float64 `(N,)`.
        sides: height and width of the image in pixels.

    Returns:
        Top, left, bottom and right of each box, integers `(N, 4)`; the last two are not in the box.
    """
    sides = np.array(sides)
    size = (np.sqrt(1 - shares)[:, np.newaxis] * sides).round().astype(int)
    begin = random.randint(0, sides, size=size.shape) - size // 2
    return np.concatenate([begin.clip(0), np.minimum(begin + size, sides)], axis=1)


def uncovered_shares(boxes, sides):
    """Return the share of an image that each of the boxes leaves, float64 `(N,)`."""
    return 1 - np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / np.prod(sides)


def _weights(F, boxes, rows, columns):
    """Return 0 inside each box and 1 outside, `(N, H, W)`."""
    top, left, bottom, right = (F.slice_axis(boxes, axis=1, begin=side, end=side + 1) for side in range(4))
    rows, columns = (F.expand_dims(numbers, axis=0) for numbers in (rows, columns))
    is_row = F.broadcast_greater_equal(rows, top) * F.broadcast_lesser(rows, bottom)
    is_column = F.broadcast_greater_equal(columns, left) * F.broadcast_lesser(columns, right)
    return 1 - F.broadcast_mul(F.expand_dims(is_row, axis=2), F.expand_dims(is_column, axis=1))


def _mix(F, images, labels, partners, weights):
    return blend(F, images, partners, weights), F.take(labels, partners)
