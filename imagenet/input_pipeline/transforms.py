"""Transforms of images: the evaluation transform, and the form that a network takes as input."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.files import read_regular_file
from imagenet.common.parallel import map_in_order
from imagenet.datasets.decoding import (
    MAX_PIXELS,
    RGB_CHANNELS,
    TOO_LARGE,
    RefusedImageError,
    decode_image,
    read_pixels,
)
from imagenet.input_pipeline.interpolation import resized_centre
from imagenet.runtime.compat import mx
from imagenet.runtime.layouts import change_layout
from imagenet.runtime.threads import available_cores


@dataclass(frozen=True)
class EvaluationOptions:
    """The parameters of the evaluation transform; the options of the same names.

    Attributes:
        image_shape: `(C, H, W)`.
        data_val_resize: length of the shorter side before the crop.
        rgb_mean, rgb_std: mean and standard deviation of the channels, for values of 0 to 255.
        interpolation: the filter that resizes, a name in `interpolation.FILTERS`.
    """

    image_shape: tuple
    data_val_resize: int
    rgb_mean: tuple
    rgb_std: tuple
    interpolation: str


@dataclass(frozen=True)
class InputForm:
    """A network's input: image shape (always `(C, H, W)`), layout ('NCHW' or 'NHWC') and precision."""

    image_shape: tuple
    input_layout: str
    dtype: str


def evaluation_transform(image, options, out=None):
    """Resize a decoded image by its shorter side, crop the center and normalize it, as `EvaluationOptions` specify.

    Args:
        out: the float32 array `(3, H, W)` to write to, such as an image of a batch; None makes one.

    Returns:
        That array; `as_network_input` converts it to the network's input form.
    """
    crop = resized_centre(image, options.data_val_resize, *options.image_shape[1:], options.interpolation)
    normalized = np.empty((RGB_CHANNELS, *crop.shape[:2]), dtype=np.float32) if out is None else out
    for channel, values in enumerate(_normalized_values(options.rgb_mean, options.rgb_std)):
        cv2.LUT(cv2.extractChannel(crop, RGB_CHANNELS - 1 - channel), values, normalized[channel])
    return normalized


@lru_cache(maxsize=1)
def _normalized_values(means, stds):
    """Return what the values 0 to 255 of each channel become, float32 arrays `(256,)`: faster than arithmetic."""
    values = np.arange(256, dtype=np.float32)
    return [(values - np.float32(mean)) / np.float32(std) for mean, std in zip(means, stds)]


def evaluation_images(records, numbers, options):
    """Yield the `evaluation_transform` of the given records in order; threads decode them.

    Raises:
        UserError: a record is damaged, or its image is not used.
    """

    def load(number):
        image, _ = read_pixels(records, number)
        return evaluation_transform(image, options)

    return map_in_order(load, numbers, available_cores())


def load_image(path, options, max_pixels=MAX_PIXELS, out=None):
    """Read one image and apply the evaluation transform; see there for `out`.

    Returns:
        A float32 array `(3, H, W)`.

    Raises:
        UserError: the file cannot be read, or its image is not used.
    """
    try:
        image = decode_image(read_regular_file(path), max_pixels)
    except OSError as error:
        raise UserError(f'--data-pred {path}: cannot read this image ({error.strerror})') from None
    except RefusedImageError as error:
        advice = '; --max-pixels sets the limit' if error.kind == TOO_LARGE else ''
        raise UserError(f'--data-pred {path}: not an image that can be used: it {error}{advice}') from None
    return evaluation_transform(image, options, out)


def as_network_input(images, form):
    """Return images `(N, 3, H, W)` in the `InputForm` of a network."""
    extra_channels = form.image_shape[0] - RGB_CHANNELS
    if extra_channels:
        zeros = mx.nd.zeros((images.shape[0], extra_channels, *images.shape[2:]), ctx=images.context)
        images = mx.nd.concat(images, zeros, dim=1)
    images = change_layout(mx.nd, images, 'NCHW', form.input_layout)
    return images.astype(form.dtype, copy=False)
