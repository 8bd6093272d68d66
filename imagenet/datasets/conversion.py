"""Converts image files to the bytes stored in records: the unchanged file, or a JPEG made from it."""

import os
import stat
from collections import namedtuple

import cv2

from imagenet.datasets.decoding import JPEG_END, JPEG_START, decode_image, is_cut_short
from imagenet.datasets.records import IMAGE_HEADER, LENGTH_BITS

# All readers of record files can decode these formats. Other formats are stored as JPEG.
STARTS_OF_KEPT_FORMATS = (JPEG_START, b'\x89PNG\r\n\x1a\n')
# A record stores its length in LENGTH_BITS bits.
MAX_FILE_BYTES = (1 << LENGTH_BITS) - 1 - IMAGE_HEADER.size
MAX_JPEG_SIDE = 65500

# `image` holds the bytes for the record, or None if there is a problem.
Converted = namedtuple('Converted', 'label path image problem')


class UnusableError(Exception):
    """A file that cannot be packed; the message gives the reason."""


def convert_line(root, resize, quality, line):
    label, path = os.fsdecode(line).rstrip('\n').split('\t')
    try:
        return Converted(int(label), path, convert_image(root / path, resize, quality), None)
    except UnusableError as problem:
        return Converted(int(label), path, None, str(problem))


def convert_image(path, resize, quality):
    """Return the bytes to store for an image file.

    These are the file's bytes, or a JPEG if the image must be resized or has another format.

    Raises:
        UnusableError: the file is not a complete image.
    """
    encoded = read_file(path)
    try:
        image = decode_image(encoded)
        if image is None:
            raise UnusableError('cannot be decoded')
        # The end marker occurs only at the end of a JPEG. Looking for it is faster than decoding the image again.
        if not encoded.endswith(JPEG_END) and is_cut_short(encoded):
            raise UnusableError('cut short')
        if resize and resize < min(image.shape[:2]):
            return encode_jpeg(shrink(image, resize), quality)
        if encoded.startswith(STARTS_OF_KEPT_FORMATS):
            return encoded
        return encode_jpeg(image, quality)
    except cv2.error as error:
        raise UnusableError(f'OpenCV cannot process it ({error.err})') from None


def read_file(path):
    try:
        status = path.stat()
        # Reading a named pipe would block forever.
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError('not a file')
        if status.st_size > MAX_FILE_BYTES:
            raise UnusableError(f'too large for a record ({status.st_size} bytes)')
        return path.read_bytes()
    except OSError as error:
        raise UnusableError(f'cannot be read ({error.strerror})') from None


def shrink(image, shorter_side):
    height, width = image.shape[:2]
    scale = shorter_side / min(height, width)
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def encode_jpeg(image, quality):
    if max(image.shape[:2]) > MAX_JPEG_SIDE:
        raise UnusableError(f'larger than a JPEG can be ({MAX_JPEG_SIDE} pixels a side)')
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
