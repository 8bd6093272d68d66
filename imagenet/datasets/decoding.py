"""Decodes image bytes to pixels."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from imagenet.common.errors import UserError
from imagenet.runtime.threads import run_on_all_cores

RGB_CHANNELS = 3
JPEG_START, JPEG_END = b'\xff\xd8\xff', b'\xff\xd9'


def decode_image(encoded):
    """Decode an image of any format that OpenCV supports.

    The lower part of a truncated JPEG is gray, as in MXNet's reader and in DALI.

    Args:
        encoded: the file's bytes.

    Returns:
        A uint8 array `(H, W, 3)` with channels in the order blue, green, red; None if the image cannot be decoded.
    """
    image = _decode(encoded)
    if image is None and bytes(encoded[:3]) == JPEG_START:
        image = _decode(bytes(encoded) + JPEG_END)
    return image


def is_cut_short(encoded):
    """Return whether a JPEG is truncated, so that `decode_image` returns only its upper part."""
    return bytes(encoded[:3]) == JPEG_START and _decode(encoded) is None and decode_image(encoded) is not None


def check_decodable(records, numbers, num_threads):
    """Raise `UserError` for the first of the given records whose image does not decode."""

    def decodes(number):
        return decode_image(records.read(number).image) is not None

    at_once = 64 * num_threads
    with ThreadPoolExecutor(num_threads, initializer=run_on_all_cores) as pool:
        for begin in range(0, len(numbers), at_once):
            some = numbers[begin : begin + at_once]
            for number, is_whole in zip(some, pool.map(decodes, some)):
                if not is_whole:
                    raise undecodable(records, number)


def undecodable(records, number):
    return UserError(
        f'{records.where(number)}: its image does not decode; '
        f'scripts/check_dataset.py {records.path.parent} --repair NEW_FOLDER writes a copy without such records'
    )


def _decode(encoded):
    return cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR) if len(encoded) else None
