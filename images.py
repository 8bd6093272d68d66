"""Single images: decoding them, what evaluation cuts out of them, and the form that a network takes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

import distributed
from bounded_map import map_in_order
from compat import mx
from errors import UserError
from layers import change_layout

RGB_CHANNELS = 3
JPEG_START, JPEG_END = b'\xff\xd8\xff', b'\xff\xd9'


def decode_image(encoded):
    """Decodes an image of any format that OpenCV knows.

    A JPEG that is cut short comes out with its lower part grey, as it does in MXNet's reader and in DALI.

    Args:
        encoded: the file's bytes.

    Returns:
        A uint8 array `(H, W, 3)`, the channels in the order blue, green, red; None where it cannot be decoded.
    """
    image = _decode(encoded)
    if image is None and bytes(encoded[:3]) == JPEG_START:
        image = _decode(bytes(encoded) + JPEG_END)
    return image


def is_cut_short(encoded):
    """Whether `decode_image` gives only the upper part of a JPEG."""
    return bytes(encoded[:3]) == JPEG_START and _decode(encoded) is None and decode_image(encoded) is not None


def check_decodable(records, numbers, num_threads):
    """Raises `UserError` that names the first of some records whose image does not decode."""

    def decodes(number):
        return decode_image(records.read(number).image) is not None

    at_once = 64 * num_threads
    with ThreadPoolExecutor(num_threads, initializer=distributed.run_on_all_cores) as pool:
        for begin in range(0, len(numbers), at_once):
            some = numbers[begin : begin + at_once]
            for number, is_whole in zip(some, pool.map(decodes, some)):
                if not is_whole:
                    raise undecodable(records, number)


def undecodable(records, number):
    return UserError(
        f'{records.where(number)}: its image does not decode; '
        f'scripts/check_dataset.py {records.path.parent} --repair NEW_FOLDER makes a copy without such records'
    )


def _decode(encoded):
    return cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR) if len(encoded) else None


def evaluation_image(image, args):
    """What evaluation makes of a decoded image: shorter side to `--data-val-resize`, centre crop, normalisation.

    Returns:
        A float32 array `(3, H, W)`; see `as_network_input` for the network's own form.
    """
    crop = centre_crop(resize_shorter_side(image, args.data_val_resize), *args.image_shape[1:])
    normalized = np.empty((RGB_CHANNELS, *crop.shape[:2]), dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(args.rgb_mean, args.rgb_std)):
        np.subtract(crop[:, :, RGB_CHANNELS - 1 - channel], np.float32(mean), out=normalized[channel], dtype=np.float32)
        normalized[channel] /= np.float32(std)
    return normalized


def evaluation_images(records, numbers, args):
    """Yields `evaluation_image` of some records, in order, decoded by threads.

    Raises:
        UserError: an image does not decode.
    """

    def load(number):
        image = decode_image(records.read(number).image)
        if image is None:
            raise undecodable(records, number)
        return evaluation_image(image, args)

    return map_in_order(load, numbers, distributed.available_cores())


def resize_shorter_side(image, length):
    height, width = image.shape[:2]
    shorter = min(height, width)
    size = (length * width // shorter, length * height // shorter)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def centre_crop(image, height, width):
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def load_image(path, args):
    """Reads one image as evaluation does.

    Returns:
        A float32 array `(1, 3, H, W)`.

    Raises:
        UserError: the file cannot be read or decoded.
    """
    try:
        image = decode_image(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'--data-pred {path}: cannot read this image ({error.strerror})') from None
    if image is None:
        raise UserError(f'--data-pred {path}: not an image that OpenCV can decode')
    return evaluation_image(image, args)[np.newaxis]


def as_network_input(images, args):
    """Images `(N, 3, H, W)` with as many channels, in the layout and of the precision that the network takes."""
    extra_channels = args.image_shape[0] - RGB_CHANNELS
    if extra_channels:
        zeros = mx.nd.zeros((images.shape[0], extra_channels, *images.shape[2:]), ctx=images.context)
        images = mx.nd.concat(images, zeros, dim=1)
    images = change_layout(mx.nd, images, 'NCHW', args.input_layout)
    return images.astype(args.dtype, copy=False)
