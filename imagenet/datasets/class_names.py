"""The names of a network's classes, from the data set's `classes.txt` or from ImageNet."""

import itertools
import shutil
from functools import partial
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import write_atomically
from imagenet.common.text import printable

# The length of the longest path, as a class can be a path; and room for millions of names.
MAX_NAME_LENGTH, MAX_BYTES = 4096, 1 << 26
IMAGENET_CLASS_FILE = Path(__file__).resolve().with_name('imagenet_classes.txt')


def read_class_names(folder):
    """Return the lines of a folder's `classes.txt`, or None if the file does not exist.

    Control characters are escaped, as names are printed.

    Raises:
        UserError: the file cannot be read, or its lines are not names.
    """
    path = Path(folder) / 'classes.txt'
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f'{path}: cannot read the class names (larger than {MAX_BYTES} bytes)')
        lines = path.read_text(encoding='utf-8').rstrip('\n').split('\n')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot read the class names ({error})') from None
    for number, line in enumerate(lines, 1):
        if not line and len(lines) > 1:
            raise UserError(f'{path}: line {number} is empty; each line must be the name of a class')
        if len(line) > MAX_NAME_LENGTH:
            raise UserError(f'{path}: line {number} is too long for the name of a class ({len(line)} characters)')
    return [printable(line) for line in lines if line]


def first_class_names(folders):
    """Return the names in the first folder whose `classes.txt` has any; None if there is none."""
    return next(filter(None, map(read_class_names, folders)), None)


def find_class_names(folders, num_classes, own=None):
    """Return the names of a network's classes.

    They are the network's own. Otherwise they come from the first folder whose `classes.txt` has `num_classes` lines.
    Otherwise a network with 1000 classes gets ImageNet's names, and any other network 'class 0', 'class 1' and so on.
    ImageNet's folder names are WordNet IDs; the words are appended to them.

    Args:
        own: the names in the network's file, or None.
    """
    imagenet = read_imagenet_words()
    fallback = list(imagenet) if num_classes == len(imagenet) else [f'class {index}' for index in range(num_classes)]
    candidates = itertools.chain([own], (read_class_names(folder) for folder in folders))
    names = next((names for names in candidates if names and len(names) == num_classes), fallback)
    return append_words(names, imagenet)


def append_words(names, words):
    """Return the names of classes with the words of those that have any in the dictionary `words`."""
    return [f'{name} {words[name]}' if name in words else name for name in names]


def read_imagenet_words():
    """Return the words of ImageNet's 1000 classes by their WordNet IDs."""
    return dict(line.split(' ', 1) for line in IMAGENET_CLASS_FILE.read_text(encoding='utf-8').splitlines())


def data_folders(*record_paths):
    """Return the folders of the given record files, which may contain `classes.txt`; skip paths that are None."""
    return [path.parent for path in record_paths if path is not None]


def keep_class_names(folders, workspace):
    """Copy the first `classes.txt` found in the folders to the workspace, where prediction finds it."""
    for folder in folders:
        if read_class_names(folder) and folder.resolve() != workspace.resolve():
            write_atomically(workspace / 'classes.txt', partial(shutil.copyfile, folder / 'classes.txt'))
            return
