"""The two splits of a data set, which must have the same classes."""

from imagenet.common.errors import UserError

SPLITS = ('train', 'val')
NAMES_SHOWN = 5


def check_classes(train, val, raw):
    """Raise `UserError` unless both splits have the same classes in the same order, and all images are in classes.

    Args:
        train, val: the names of the classes, in the order of their labels.
    """
    only_train, only_val = sorted(set(train) - set(val)), sorted(set(val) - set(train))
    if only_train or only_val:
        found = ', '.join(
            f'only in {split}: {first(names)}' for split, names in zip(SPLITS, (only_train, only_val)) if names
        )
        raise UserError(f'{raw}: training and validation images have different classes ({found})')
    for label, names in enumerate(zip(train, val)):
        if names[0] != names[1]:
            found = ' and '.join(f'{name} in {split}' for split, name in zip(SPLITS, names))
            raise UserError(f'{raw}: training and validation images have other labels (class {label} is {found})')
    if '.' in train:
        raise UserError(f'{raw}: images are outside of class folders; make a folder per class, as in train/cat/1.jpg')


def first(names):
    """Return the first few names, and how many more there are, for a message."""
    return ', '.join(names[:NAMES_SHOWN]) + (
        f' and {len(names) - NAMES_SHOWN} more' if len(names) > NAMES_SHOWN else ''
    )
