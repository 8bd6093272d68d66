#!/usr/bin/env python
"""Check, between im2rec.py's steps, that both splits have the same labels and that every image was packed."""

from pathlib import Path

from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.options import ArgumentParser
from imagenet.datasets.records import check_record_file, read_index

SPLITS = ('train', 'val')
NAMES_SHOWN = 5


def read_classes(list_path):
    """Return the class folders of an im2rec list, in the order of their labels.

    Raises:
        UserError: a file name contains a tab or a line break, which breaks the list's columns.
    """
    classes = {}
    with list_path.open(encoding='utf-8') as lines:
        for line in lines:
            fields = line.rstrip('\n').split('\t')
            if len(fields) != 3:
                raise UserError(
                    f'{"/".join(fields[2:])}: im2rec.py cannot pack a name with a tab or a line break; rename it'
                )
            _, label, path = fields
            classes[int(float(label))] = str(Path(path).parent)
    return [classes[label] for label in sorted(classes)]


def check_classes(train, val, raw):
    """Raise `UserError` unless both splits have the same class folders and all images are in class folders."""
    only_train, only_val = sorted(set(train) - set(val)), sorted(set(val) - set(train))
    if only_train or only_val:
        found = ', '.join(
            f'only in {split}: {first(names)}' for split, names in zip(SPLITS, (only_train, only_val)) if names
        )
        raise UserError(f'{raw}: training and validation images have different classes ({found})')
    if '.' in train:
        raise UserError(f'{raw}: images are outside of class folders; make a folder per class, as in train/cat/1.jpg')


def write_classes(folder, raw):
    """Write `classes.txt`.

    Raises:
        UserError: the splits have different classes.
    """
    train, val = (read_classes(folder / f'{split}.lst') for split in SPLITS)
    check_classes(train, val, raw)
    (folder / 'classes.txt').write_text(''.join(f'{name}\n' for name in train), encoding='utf-8')


def check_records(folder, raw):
    """Raise `UserError` unless each split's record file contains all images of its list."""
    num_classes = len((folder / 'classes.txt').read_text(encoding='utf-8').splitlines())
    for split in SPLITS:
        record_path, idx_path = folder / f'{split}.rec', folder / f'{split}.idx'
        with (folder / f'{split}.lst').open('rb') as lines:
            listed = sum(1 for _ in lines)
        packed = len(read_index(idx_path))
        if packed != listed:
            raise UserError(f'{raw}: {listed - packed} of {listed} {split} images could not be read')
        check_record_file(record_path, idx_path, num_classes)


def first(names):
    """Return the first few names, and how many more there are, for a message."""
    return ', '.join(names[:NAMES_SHOWN]) + (
        f' and {len(names) - NAMES_SHOWN} more' if len(names) > NAMES_SHOWN else ''
    )


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('step', choices=('classes', 'records'))
    parser.add_argument('folder', type=Path, help='the folder with the lists and records')
    parser.add_argument('raw', type=Path, help='the image tree, for messages')
    args = parser.parse_args()
    with one_line_errors():
        {'classes': write_classes, 'records': check_records}[args.step](args.folder, args.raw)


if __name__ == '__main__':
    main()
