"""Converts images to the bytes stored in records: the unchanged image, or a JPEG made from it."""

import os
from collections import namedtuple

import cv2

from imagenet.datasets.decoding import CUT_SHORT, UNDECODABLE, RefusedImageError, check_record_header, decode_image
from imagenet.datasets.image_files import UnusableError

# Other formats are stored as JPEG.
KEPT_FORMATS = ('JPEG', 'PNG')
REASONS = {UNDECODABLE: 'cannot be decoded', CUT_SHORT: 'cut short'}
MAX_JPEG_SIDE = 65500
FULL_COLOR = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)

# `image` holds the bytes for the record, or None if there is a problem. `key` is None if records are numbered in order.
Converted = namedtuple('Converted', 'key label name place image problem')


def convert_line(source, resize, quality, line):
    """Return the `Converted` image of a line of a list: a label, a name, a place and perhaps a key."""
    label, name, place, *key = os.fsdecode(line).rstrip('\n').split('\t')
    about = int(key[0]) if key else None, int(label), name, place
    try:
        return Converted(*about, convert_image(source.read(name, place), resize, quality), None)
    except UnusableError as problem:
        return Converted(*about, None, str(problem))


def convert_image(encoded, resize, quality):
    """Return the bytes to store for an encoded image.

    These are the same bytes, or a JPEG if the image must be resized or has another format.

    Raises:
        UnusableError: it is not a complete image.
    """
    try:
        image = decode_image(encoded)
        if resize and resize < min(image.shape[:2]):
            return encode_jpeg(shrink(image, resize), quality)
        # Without subsampling, colors stay as sharp as in the other format.
        return encoded if is_kept(encoded) else encode_jpeg(image, quality, *FULL_COLOR)
    except RefusedImageError as error:
        raise UnusableError(REASONS.get(error.kind, str(error))) from None
    except cv2.error as error:
        raise UnusableError(f'OpenCV cannot process it ({error.err})') from None


def is_kept(encoded):
    """Return whether the image is stored unchanged: a JPEG, or a PNG that all readers show alike."""
    try:
        return check_record_header(encoded).format in KEPT_FORMATS
    except RefusedImageError:
        return False


def shrink(image, shorter_side):
    height, width = image.shape[:2]
    scale = shorter_side / min(height, width)
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def encode_jpeg(image, quality, *parameters):
    if max(image.shape[:2]) > MAX_JPEG_SIDE:
        raise UnusableError(f'larger than a JPEG can be ({MAX_JPEG_SIDE} pixels a side)')
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality, *parameters])[1].tobytes()
