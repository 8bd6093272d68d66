"""An image tree as a source of images: a class is a folder that contains images."""

import os
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.text import printable
from imagenet.datasets.image_files import EXTENSIONS, Image, breaks_lists, problem_of_name, read_image_file


class ImageTree:
    """The classes below a folder, as a source of images (see sources.py). A name is a path below the folder."""

    indexed_files = ()
    words = {}

    def __init__(self, root):
        self._root = root

    def __str__(self):
        return str(self._root)

    def classes(self, skip, _scratch):
        """Yield the classes as `class_folders` does.

        Raises:
            UserError: there are no images, or a folder cannot be used.
        """
        is_empty = True
        for name, files in class_folders(self._root, skip):
            is_empty = False
            yield name, [Image(file, '') for file in files]
        if is_empty:
            raise UserError(f'{self._root}: no images in its folders ({", ".join(EXTENSIONS)})')

    def read(self, name, _place):
        return read_image_file(self.path_of(name))

    def path_of(self, name, _place=''):
        return self._root / name


def class_folders(root, skip):
    """Yield (folder, names of its images) for each folder that contains images, in the order of im2rec.py.

    Args:
        skip: a function called with the path of each file that is not an image, and the reason.

    Raises:
        UserError: a folder cannot be read, has no images, or has a name that `classes.txt` cannot hold.
    """
    for folder, subfolders, files in os.walk(root, onerror=_cannot_read, followlinks=True):
        for hidden in sorted(name for name in subfolders if name.startswith('.')):
            skip(Path(folder, hidden), 'a hidden folder')
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        images = []
        for file in sorted(files):
            problem = problem_of_name(file)
            if problem:
                skip(Path(folder, file), problem)
            else:
                images.append(file)
        if images:
            name = os.path.relpath(folder, root)
            check_class_name(name, folder)
            yield name, images
        elif not subfolders and folder != str(root):
            raise UserError(f'{printable(folder)}: a class without images; add some, or remove the folder')


def _cannot_read(error):
    raise UserError(f'{printable(error.filename)}: cannot read this folder ({error.strerror})')


def check_class_name(name, folder):
    """Raise `UserError` if `classes.txt` cannot hold the name."""
    if breaks_lists(name):
        raise UserError(f'{printable(folder)}: a tab or a line break in a class name; rename the folder')
    try:
        name.encode('utf-8')
    except UnicodeEncodeError:
        raise UserError(f'{printable(folder)}: this class name is not valid UTF-8; rename the folder') from None
