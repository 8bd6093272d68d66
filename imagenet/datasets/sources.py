"""Finds the images to pack: where a folder contains them, and in which form.

A source contains the images of one split, or of both if they are not split yet. `str(source)` is for messages. It has

- `classes(skip, scratch)`: yields each class, in the order of the labels, with a list of its images, each an `Image`.
  It calls `skip` with the path of each file that is not an image, and the reason. `scratch` is a folder for temporary
  files. It raises `UserError` if the images cannot be used.
- `read(name, place)`: returns the encoded image of a class's file, CLASS/FILE, at a place. It raises `UnusableError` if
  the image cannot be packed. Many threads call it at once.
- `path_of(name, place)`: returns a path that shows the user where the image is.
- `words`: the words to append to the names of classes, by name, once the classes are known.
- `indexed_files`: the paths of the files that places refer to; they must not change before all images are packed.
"""

import hashlib
from collections import namedtuple
from functools import partial
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.datasets.image_tree import ImageTree
from imagenet.datasets.imagenet_archives import (
    TRAINING_ARCHIVE,
    VALIDATION_ARCHIVE,
    FolderOfImages,
    ValidationImages,
    find_archives,
)
from imagenet.datasets.imagenet_devkit import find_devkit
from imagenet.datasets.splits import SPLITS
from imagenet.datasets.tfrecords import find_tfrecords

# A form of the images that a folder contains.
# find: a function of the folder that returns the sources in it, by split.
# names: the names of what it looks for, by split.
Form = namedtuple('Form', 'find names')


def find_sources(raw, val_fraction, threads):
    """Return the source of the images, by split; the same source for both if `val_fraction` is to split it.

    Args:
        threads: how many threads look for the images in large files.

    Raises:
        UserError: the folder does not exist, the images are already split and `val_fraction` is given, they are not
            split and `val_fraction` is None, or files are missing.
    """
    if not raw.is_dir():
        raise UserError(f'{raw}: no such folder')
    forms = (
        Form(find_trees, {}),
        Form(partial(find_tfrecords, threads=threads), {'train': 'train-*-of-*', 'val': 'validation-*-of-*'}),
        Form(find_archives, {'train': TRAINING_ARCHIVE, 'val': VALIDATION_ARCHIVE}),
    )
    found, names = next(((found, form.names) for form in forms for found in [form.find(raw)] if found), ({}, {}))
    if val_fraction is None:
        check_both_found(raw, found, names)
        return found
    if len(found) == len(SPLITS):
        into = ' and '.join(Path(str(found[split])).name for split in SPLITS)
        raise UserError(f'--val-fraction {val_fraction:g}: {raw} is already split, into {into}; omit the option')
    return dict.fromkeys(SPLITS, found.get('train') or ImageTree(raw))


def check_both_found(raw, found, names):
    """Raise `UserError` if there is no source, or that of one split only, whose names in the form are given."""
    if not found:
        raise UserError(
            f'{raw}: must contain the folders train and val, or train-jpeg and val-jpeg, with a folder per class in '
            "each, or TFRecords, or ImageNet's archives; or use --val-fraction to split the class folders in it"
        )
    if 'val' not in found:
        raise UserError(
            f'{raw}: contains {names["train"]}, but not {names["val"]}; '
            'add it, or use --val-fraction to split the training images'
        )
    if 'train' not in found:
        raise UserError(f'{raw}: contains {names["val"]}, but not {names["train"]}; add it')


def find_trees(raw):
    """Return the folders of images that are already split as sources, by split.

    Raises:
        UserError: validation images need the development kit, which is missing.
    """
    for suffix in ('', '-jpeg'):
        train, val = (raw / f'{split}{suffix}' for split in SPLITS)
        if train.is_dir() and val.is_dir():
            return {'train': ImageTree(train), 'val': find_validation(raw, train, val)}
    return {}


def find_validation(raw, train, val):
    """Return the source in the folder `val`: a tree like `train`, or ImageNet's validation images as they come."""
    if has_folders(train) and not has_folders(val) and any(val.iterdir()):
        return ValidationImages(FolderOfImages(val), find_devkit(raw, val))
    return ImageTree(val)


def has_folders(path):
    return any(entry.is_dir() and not entry.name.startswith('.') for entry in path.iterdir())


def fingerprint(sources):
    """Return a text that changes if the indexed files of the sources change."""
    digest = hashlib.sha256()
    for path in (path for split in SPLITS for path in sources[split].indexed_files):
        status = path.stat()
        digest.update(f'{path.name}\t{status.st_size}\t{status.st_mtime_ns}\n'.encode())
    return digest.hexdigest()
