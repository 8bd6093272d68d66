"""The images that `--data-pred` names: an image, a folder, or a list. There may be millions."""

import hashlib
import itertools
import json
import os
import tempfile

from imagenet.common.errors import UserError

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
LIST_SUFFIXES = ('.lst', '.txt')
# More paths than this are kept in a file.
BYTES_IN_MEMORY = 1 << 18


def find_images(path):
    """Return the `ImageList` of `--data-pred`, which the caller closes.

    Raises:
        UserError: there are no images, or a list cannot be read.
    """
    if path.is_dir():
        images = ImageList(images_below(path))
        problem = f'this folder contains no images ({", ".join(IMAGE_SUFFIXES)})'
    elif path.suffix.lower() in LIST_SUFFIXES:
        images, problem = ImageList(_images_in_list(path)), 'this list contains no image'
    else:
        images, problem = ImageList([str(path)]), None
    if not len(images):
        images.close()
        raise UserError(f'--data-pred {path}: {problem}')
    return images


def images_below(folder):
    """Yield the paths of the images in a folder and its subfolders, sorted by the parts of the paths."""
    names, folders = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
    except PermissionError:
        return
    names.sort()
    for name in names:
        path = folder / name
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield str(path)
        if name in folders:
            yield from images_below(path)


def _images_in_list(path):
    """Yield the paths in a list, one a line, relative to the list's folder."""
    try:
        with path.open(encoding='utf-8') as file:
            lines = itertools.chain.from_iterable(map(str.splitlines, file))
            yield from (str(path.parent / line.strip()) for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'--data-pred {path}: cannot read this list ({error})') from None


class ImageList:
    """Paths of images in order, which are kept in a temporary file: a million of them take 300 MB of memory.

    They are what a folder or a list has contained at the start, even if it changes later.

    Attributes:
        checksum: SHA-256 of the paths.

    Raises:
        UserError: there is no space for the temporary file.
    """

    def __init__(self, paths):
        self._file = tempfile.SpooledTemporaryFile(BYTES_IN_MEMORY)
        self._count = 0
        digest = hashlib.sha256()
        try:
            for path in paths:
                # A name may contain a line feed, or not be valid text.
                line = json.dumps(path).encode() + b'\n'
                digest.update(line)
                self._file.write(line)
                self._count += 1
            self._file.seek(0)
        except OSError as error:
            folder, reason = tempfile.gettempdir(), error.strerror
            raise UserError(f'{folder}: cannot write a list there ({reason}); TMPDIR sets another folder') from None
        self.checksum = digest.hexdigest()

    def __len__(self):
        return self._count

    def starting_at(self, number):
        """Return an iterator over the paths from a number on. Only one iterator can be in use at a time."""
        self._file.seek(0)
        return map(json.loads, itertools.islice(self._file, number, None))

    def close(self):
        self._file.close()
