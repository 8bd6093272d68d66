"""Finds the images to pack: where a folder contains them, and in which form.

A source contains the images of one split, or of both if they are not split yet. `str(source)` is for messages. It has

- `classes(skip)`: yields each class, in the order of the labels, with a list of its images, each an `Image`. It calls
  `skip` with the path of each file that is not an image, and the reason. It raises `UserError` if the images cannot be
  used.
- `read(name, place)`: returns the encoded image of a class's file, CLASS/FILE, at a place. It raises `UnusableError` if
  the image cannot be packed. Many threads call it at once.
- `path_of(name, place)`: returns a path that shows the user where the image is.
- `indexed_files`: the paths of the files that places refer to; they must not change before all images are packed.
"""

import hashlib

from imagenet.common.errors import UserError
from imagenet.datasets.image_tree import ImageTree
from imagenet.datasets.splits import SPLITS


def find_sources(raw, val_fraction):
    """Return the source of the images, by split; the same source for both if `val_fraction` is to split it.

    Raises:
        UserError: the folder does not exist, the images are already split and `val_fraction` is given, or they are not
            split and `val_fraction` is None.
    """
    if not raw.is_dir():
        raise UserError(f'{raw}: no such folder')
    for suffix in ('', '-jpeg'):
        roots = {split: raw / f'{split}{suffix}' for split in SPLITS}
        if not all(root.is_dir() for root in roots.values()):
            continue
        if val_fraction is not None:
            names = ' and '.join(root.name for root in roots.values())
            raise UserError(f'--val-fraction {val_fraction:g}: {raw} is already split, into {names}; omit the option')
        return {split: ImageTree(root) for split, root in roots.items()}
    if val_fraction is None:
        raise UserError(
            f'{raw}: must contain the folders train and val, or train-jpeg and val-jpeg, with a folder per class in '
            'each; or use --val-fraction to split the class folders in it'
        )
    return dict.fromkeys(SPLITS, ImageTree(raw))


def fingerprint(sources):
    """Return a text that changes if the indexed files of the sources change."""
    digest = hashlib.sha256()
    for path in (path for split in SPLITS for path in sources[split].indexed_files):
        status = path.stat()
        digest.update(f'{path.name}\t{status.st_size}\t{status.st_mtime_ns}\n'.encode())
    return digest.hexdigest()
