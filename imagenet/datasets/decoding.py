"""Decodes images to pixels: the same decision and the same pixels wherever an image is read.

The header is checked first, since a few bytes can declare an image that fills all memory. Pixels are as viewers show
them: turned as the EXIF orientation says.
"""

import time
from contextlib import contextmanager

import cv2
import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.parallel import map_in_order
from imagenet.datasets.image_header import UPRIGHT, is_cut_short, is_intact_png, read_header
from imagenet.runtime.threads import run_on_all_cores

# Images that do not decode are reported with their names. OpenCV 4.13 has moved the function.
(cv2.setLogLevel if hasattr(cv2, 'setLogLevel') else cv2.utils.logging.setLogLevel)(0)

RGB_CHANNELS = 3
# 600 MB of pixels; the largest sensors of phones have this many.
MAX_PIXELS = 200_000_000
# OpenCV's own limit.
MOST_PIXELS = 1 << 30
# A very narrow image becomes a very large one when its shorter side is enlarged.
MAX_ASPECT_RATIO = 1000
# What `mx.io.ImageRecordIter` decodes like OpenCV, if it is upright. (It turns JPEGs, but not PNGs.)
FORMATS_OF_RECORDS = ('JPEG', 'PNG', 'BMP')
HEADERS_AT_ONCE = 256
SECONDS_OF_A_SEARCH = 3

UNDECODABLE, CUT_SHORT, TOO_LARGE, TOO_NARROW, OTHER_FORMAT = 'undecodable', 'cut short', 'large', 'narrow', 'format'


class RefusedImageError(Exception):
    """An image that is not used.

    Attributes:
        kind: one of the five kinds above.

    The message gives the reason, in words that follow 'the image'.
    """

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def check_header(encoded, max_pixels=MAX_PIXELS):
    """Return the `ImageHeader` of an image, of which nothing is decoded.

    Raises:
        RefusedImageError: the image is not used.
    """
    header = read_header(encoded)
    if header is None:
        raise RefusedImageError(UNDECODABLE, 'does not decode')
    size = f'{header.width} x {header.height} pixels'
    if header.width * header.height > max_pixels:
        raise RefusedImageError(TOO_LARGE, f'has {size}, more than {max_pixels} in all')
    if max(header.width, header.height) > MAX_ASPECT_RATIO * min(header.width, header.height):
        raise RefusedImageError(TOO_NARROW, f'has {size}, and one side is over {MAX_ASPECT_RATIO} times the other')
    if header.format == 'JPEG' and is_cut_short(encoded):
        raise RefusedImageError(CUT_SHORT, 'is a JPEG that is cut short')
    # libpng would refuse it, too, and print a line of its own.
    if header.format == 'PNG' and not is_intact_png(encoded):
        raise RefusedImageError(UNDECODABLE, 'does not decode')
    return header


def check_record_header(encoded):
    """Do what `check_header` does, and refuse what not every reader of record files decodes.

    Raises:
        RefusedImageError: the image is not used.
    """
    header = check_header(encoded)
    if header.format not in FORMATS_OF_RECORDS:
        raise RefusedImageError(OTHER_FORMAT, f'is a {header.format}, which not every reader decodes')
    if header.format == 'PNG' and header.orientation not in (None, UPRIGHT):
        raise RefusedImageError(OTHER_FORMAT, 'is a turned PNG, which not every reader turns back')
    return header


def decode_image(encoded, max_pixels=MAX_PIXELS):
    """Decode an image file.

    Args:
        encoded: the file's bytes.
        max_pixels: larger images are refused.

    Returns:
        A uint8 array `(H, W, 3)` with channels in the order blue, green, red.

    Raises:
        RefusedImageError: the image is not used.
    """
    return _decode(encoded, check_header(encoded, max_pixels))


def decode_record_image(encoded):
    """Do what `decode_image` does, for an image from a record file."""
    return _decode(encoded, check_record_header(encoded))


def _decode(encoded, header):
    # OpenCV turns the other formats itself. Since 4.12 it turns some WebP images, too, and must be told not to.
    is_ours_to_turn = header.format == 'WebP'
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if is_ours_to_turn else 0)
    try:
        image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), flags)
    except cv2.error as error:
        raise RefusedImageError(UNDECODABLE, f'does not decode ({error.err})') from None
    if image is None:
        raise RefusedImageError(UNDECODABLE, 'does not decode')
    return turn(image, header.orientation) if is_ours_to_turn else image


def turn(image, orientation):
    """Return an image as viewers show it, given its EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def read_pixels(records, number):
    """Return the decoded image of a record, and its label.

    Raises:
        UserError: the record is damaged, or its image is not used.
    """
    record = records.read(number)
    with named_refusal(records, number):
        return decode_record_image(record.image), record.label


def check_decodable(records, numbers, num_threads):
    """Raise `UserError` for the first of the given records whose image is not used, if a short search finds it."""
    give_up = time.monotonic() + SECONDS_OF_A_SEARCH

    def check(number):
        read_pixels(records, number)

    for _ in map_in_order(check, numbers, num_threads, initializer=run_on_all_cores):
        if time.monotonic() > give_up:
            return


def check_headers(records, numbers, num_threads):
    """Raise `UserError` for the first of the given records whose image is not used, as far as its header shows."""

    def check(some):
        for number in some:
            try:
                check_record_header(records.read_ends(number).image)
            except RefusedImageError:
                # The header may be longer than what was read.
                with named_refusal(records, number):
                    check_record_header(records.read(number).image)

    # Handing a single header to a thread would take longer than checking it.
    parts = (numbers[begin : begin + HEADERS_AT_ONCE] for begin in range(0, len(numbers), HEADERS_AT_ONCE))
    for _ in map_in_order(check, parts, num_threads, initializer=run_on_all_cores):
        pass


@contextmanager
def named_refusal(records, number):
    """Turn a `RefusedImageError` of the block into a `UserError` that names the record."""
    try:
        yield
    except RefusedImageError as error:
        raise UserError(
            f'{records.where(number)}: its image {error}; scripts/check_dataset.py {records.path.parent} '
            '--repair NEW_FOLDER writes a copy without such records'
        ) from None
