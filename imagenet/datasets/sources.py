"""Finds the images to pack: where a folder contains them, and in which form.

A source contains the images of one split, or of both if they are not split yet. `str(source)` is for messages. It has

- `classes(skip, scratch)`: yields each class, in the order of the labels, with a list of its images, each an `Image`.
  It calls `skip` with the path of each file that is not an image, and the reason. `scratch` is a folder for temporary
  files. It raises `UserError` if the images cannot be used.
- `read(name, place)`: returns the encoded image of a class's file, CLASS/FILE, at a place. It raises `UnusableError` if
  the image cannot be packed. Many threads call it at once.
- `path_of(name, place)`: returns a path that shows the user where the image is.
- `indexed_files`: the paths of the files that places refer to; they must not change before all images are packed.
"""

import hashlib
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.datasets.image_tree import ImageTree
from imagenet.datasets.splits import SPLITS
from imagenet.datasets.tfrecords import find_tfrecords

# If only one split is found.
ADVICE = {
    'train': 'add validation-*-of-*, or use --val-fraction to split the training images',
    'val': 'add train-*-of-*',
}


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
    found = find_trees(raw) or find_tfrecords(raw, threads)
    if len(found) == len(SPLITS):
        if val_fraction is not None:
            names = ' and '.join(Path(str(found[split])).name for split in SPLITS)
            raise UserError(f'--val-fraction {val_fraction:g}: {raw} is already split, into {names}; omit the option')
        return found
    if val_fraction is not None:
        return dict.fromkeys(SPLITS, found.get('train') or ImageTree(raw))
    if found:
        ((split, source),) = found.items()
        raise UserError(f'{raw}: of the two splits, contains only {Path(str(source)).name}; {ADVICE[split]}')
    raise UserError(
        f'{raw}: must contain the folders train and val, or train-jpeg and val-jpeg, with a folder per class in '
        'each, or TFRecords; or use --val-fraction to split the class folders in it'
    )


def find_trees(raw):
    """Return the trees of images that are already split, by split."""
    for suffix in ('', '-jpeg'):
        roots = {split: raw / f'{split}{suffix}' for split in SPLITS}
        if all(root.is_dir() for root in roots.values()):
            return {split: ImageTree(root) for split, root in roots.items()}
    return {}


def fingerprint(sources):
    """Return a text that changes if the indexed files of the sources change."""
    digest = hashlib.sha256()
    for path in (path for split in SPLITS for path in sources[split].indexed_files):
        status = path.stat()
        digest.update(f'{path.name}\t{status.st_size}\t{status.st_mtime_ns}\n'.encode())
    return digest.hexdigest()
