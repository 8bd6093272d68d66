"""Image files: which names are packed, and reading them, alone or inside of a larger file."""

import os
import stat
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.datasets.records import IMAGE_HEADER, LENGTH_BITS

# A record stores its length in LENGTH_BITS bits.
MAX_FILE_BYTES = (1 << LENGTH_BITS) - 1 - IMAGE_HEADER.size
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')

# An image of a class: the name of its file, and the place where its source finds it, as text without tabs.
Image = namedtuple('Image', 'file place')


class UnusableError(Exception):
    """An image that cannot be packed; the message gives the reason."""


def read_image_file(path):
    """Return the bytes of a file; raise `UnusableError` if it cannot be read or is too large for a record."""
    try:
        status = path.stat()
        # Reading a named pipe would block forever.
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError('not a file')
        check_size(status.st_size)
        return path.read_bytes()
    except OSError as error:
        raise UnusableError(f'cannot be read ({error.strerror})') from None


def read_image_at(path, offset, size):
    """Return an image inside of a file; raise `UnusableError` if it is too large for a record."""
    check_size(size)
    return read_span(path, offset, size)


def read_span(path, offset, size):
    """Return some bytes of a file that is known to have them; raise `UserError` if it cannot be read."""
    with reading(path), path.open('rb', buffering=0) as file:
        content = os.pread(file.fileno(), size, offset)
    if len(content) < size:
        raise UserError(f'{path}: has become shorter while it was read')
    return content


@contextmanager
def reading(path):
    """Turn an `OSError` in the block into a `UserError` that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None


def check_size(size):
    """Raise `UnusableError` if a record cannot hold an image of this many bytes."""
    if size > MAX_FILE_BYTES:
        raise UnusableError(f'too large for a record ({size} bytes)')


def problem_of_name(name):
    """Return the reason why a file with this name is not packed, or None if it is packed."""
    if name.startswith('.'):
        return 'a hidden file'
    if Path(name).suffix.lower() not in EXTENSIONS:
        return 'not an image, judging by its name'
    if breaks_lists(name):
        return 'a tab or a line break in its name, which lists cannot hold'
    return None


def breaks_lists(name):
    return '\t' in name or name.splitlines() != [name]
