"""The filters of `--interpolation`: their names in other libraries, and resizing with them.

An antialiased filter becomes wider as an image shrinks, so that every pixel has a share in the result. Without
antialiasing, most pixels of a large image are skipped. DALI computes the same filters; the results differ by rounding.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Filter:
    """A filter's names in other libraries, and its form.

    Attributes:
        dali: its name in `nvidia.dali.types`.
        pillow: Pillow's filter, which is antialiased; None for OpenCV's bilinear filter, which is not.
        radius: how many pixels it reaches in each direction, if the image is not shrunk.
        has_negative_weights: whether results can lie outside the range of the pixels.
    """

    dali: str
    pillow: Image.Resampling = None
    radius: int = 1
    has_negative_weights: bool = False

    @property
    def is_antialiased(self):
        return self.pillow is not None


FILTERS = {
    'linear': Filter('INTERP_LINEAR'),
    'triangular': Filter('INTERP_TRIANGULAR', Image.Resampling.BILINEAR),
    'cubic': Filter('INTERP_CUBIC', Image.Resampling.BICUBIC, radius=2, has_negative_weights=True),
    'lanczos': Filter('INTERP_LANCZOS3', Image.Resampling.LANCZOS, radius=3, has_negative_weights=True),
}
# What DALI does by default, and so the published training.
DEFAULT = 'triangular'
# What `mx.io.ImageRecordIter` does.
NOT_ANTIALIASED = 'linear'
# More pixels than this are resized in strips, since Pillow copies them, with 4 bytes for each.
PIXELS_AT_ONCE = 1 << 24


def resized_centre(image, shorter_side, height, width, interpolation):
    """Resize an image by its shorter side, rounding the longer one down, and crop its center.

    Args:
        image: a uint8 array `(H, W, 3)`.
        height, width: size of the crop.
        interpolation: a name in `FILTERS`.

    Returns:
        A uint8 array `(height, width, 3)`.
    """
    shape = [shorter_side * side // min(image.shape[:2]) for side in image.shape[:2]]
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    method = FILTERS[interpolation]
    if not method.is_antialiased:
        resized = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
        return resized[top : top + height, left : left + width]
    columns = _Span(image.shape[1], shape[1], left, width, method.radius)
    rows_at_once = max(1, PIXELS_AT_ONCE * shape[0] // (image.shape[0] * image.shape[1]))
    strips = []
    for begin in range(0, height, rows_at_once):
        size = min(rows_at_once, height - begin)
        rows = _Span(image.shape[0], shape[0], top + begin, size, method.radius)
        strips.append(_resize(image, rows, columns, method))
    return np.concatenate(strips)


class _Span:
    """The pixels of an image, along one axis, that a part of the resized image is computed from.

    Args:
        length: of the image.
        resized: length of the resized image.
        offset, size: of the part in the resized image.
        radius: of the filter.

    Attributes:
        within: a slice of the image.
        size: of the part.
        missing: how many more pixels are needed before and after it, beyond the borders of the image.
        begin, end: of the part, counted from the first of all these pixels.
    """

    def __init__(self, length, resized, offset, size, radius):
        scale = length / resized
        margin = radius * max(scale, 1)
        first, last = math.floor(offset * scale - margin), math.ceil((offset + size) * scale + margin)
        self.size = size
        self.within = slice(max(first, 0), min(last, length))
        self.missing = max(-first, 0), max(last - length, 0)
        self.begin, self.end = offset * scale - first, (offset + size) * scale - first


def _resize(image, rows, columns, method):
    """Return a part of a resized image, given the spans of its rows and columns."""
    # The pixels at the border are repeated, as in DALI. Pillow would weight the others more.
    source = cv2.copyMakeBorder(
        image[rows.within, columns.within], *rows.missing, *columns.missing, cv2.BORDER_REPLICATE
    )
    size, box = (columns.size, rows.size), (columns.begin, rows.begin, columns.end, rows.end)

    def apply(pixels):
        return np.asarray(Image.fromarray(pixels).resize(size, method.pillow, box))

    if not method.has_negative_weights:
        return apply(source)
    # Pillow resizes one axis after the other, and would cut off what lies outside the range of uint8 in between.
    channels = [apply(channel.astype(np.float32)) for channel in cv2.split(source)]
    return cv2.merge(channels).round().clip(0, 255).astype(np.uint8)
