"""`--real-labels`: ImageNet's reassessed labels, all the classes that are right for each validation image.

Beyer et al., "Are we done with ImageNet?" (arXiv:2006.07159, section 3). Their `real.json` is a list with an entry for
each image, in the order of the images' numbers: a list of class indices, empty if no class is right. Such an image does
not count.
"""

import re
from pathlib import Path

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.text import printable
from imagenet.reporting.json_files import read_json

OPTION = '--real-labels'
SCHEMA = Path(__file__).resolve().with_name('real_labels_schema.json')
# Its number counts from 1.
IMAGE_NAME = re.compile(r'ILSVRC2012_val_(\d{8})\.\w+')


def add_real_labels_args(parser):
    group = parser.add_argument_group('Reassessed labels')
    group.add_argument(
        OPTION,
        type=Path,
        metavar='FILE',
        help='--mode val: also measure top-1 with these labels, which accept each class that an image of ImageNet '
        'shows: real.json of github.com/google-research/reassessed-imagenet',
    )
    return group


def read_real_labels(path, files, num_classes):
    """Return the right classes of each record, as a list of sets.

    Args:
        path: path of `real.json`.
        files: the names of all records' image files, or None if they are unknown.
        num_classes: the number of classes of the network.

    Raises:
        UserError: the file is not a list of labels, or does not belong to these records.
    """
    by_number = read_json(path, SCHEMA, "ImageNet's reassessed labels", f'{OPTION} {path}')
    largest = max((label for labels in by_number for label in labels), default=0)
    if largest >= num_classes:
        raise UserError(f'{OPTION} {path}: has class {largest}, and the network {num_classes} classes')
    if files is None:
        raise UserError(f'{OPTION} {path}: needs val.lst next to the validation images, which names their files')
    return [set(by_number[_index(path, file, len(by_number))]) for file in files]


def _index(path, file, count):
    """Return the place in the list of labels of the image in this file."""
    match = IMAGE_NAME.fullmatch(file.split('/')[-1])
    if match is None:
        raise UserError(f"{OPTION} {path}: {printable(file)} is not named as ImageNet's validation images are")
    number = int(match.group(1))
    if not 1 <= number <= count:
        raise UserError(f'{OPTION} {path}: has labels for {count} images, and none for {printable(file)}')
    return number - 1


def real_top1(numbers, said, right_classes):
    """Return the accuracy with reassessed labels, and how many images count.

    Args:
        numbers: the numbers of the validated records, `(examples,)`.
        said: the likeliest classes, `(examples,)`.
        right_classes: what `read_real_labels` returns.

    Returns:
        The share of the images with a right class whose likeliest class is one; NaN if there are none.
    """
    is_right = [
        label in right_classes[number]
        for number, label in zip(numbers.tolist(), said.tolist())
        if right_classes[number]
    ]
    return float(np.mean(is_right)) if is_right else float('nan'), len(is_right)
