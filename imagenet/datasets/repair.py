"""Implements `check_dataset.py --repair`: copies the intact records of a data set byte for byte."""

import shutil

import numpy as np
from tqdm import tqdm

from imagenet.common.errors import UserError
from imagenet.common.files import folder_when_whole
from imagenet.datasets.records import check_record_file, index_path

# Large enough for a remote disk.
READ_AT_ONCE = 1 << 22
SMALL_FILE_BYTES = 1_000_000
STALE_AFTER_REPAIR = 'dataset.json'
DATA_SUFFIXES = ('.rec', '.idx', '.lst')


def repair(checked, classes, new):
    """Write a clean copy of the data set to the folder `new`, and print what it leaves out.

    Raises:
        UserError: the copy cannot be written, or a record file has no intact record.
    """
    with folder_when_whole(new) as partial:
        for file in checked:
            copy_records(file, partial)
        copy_small_files(checked[0].path.parent, partial)
        for file in checked:
            record_path = partial / file.path.name
            num_classes = len(classes) if classes else max(file.histogram()) + 1
            check_record_file(record_path, index_path(record_path), num_classes)
    print(f'{new}: contains a copy of all intact records')


def copy_records(file, folder):
    """Copy the intact records and their lines of the list, and write an index."""
    is_right, name = file.is_right, file.path.name
    records = file.records[is_right]
    if len(records) == 0:
        raise UserError(f'{file.path}: none of its records is intact, so there is nothing to copy')
    lengths = records['end'] - records['begin']
    size = int(lengths.sum())
    with file.path.open('rb', READ_AT_ONCE) as source, (folder / name).open('wb') as target, bar_of(name, size) as bar:
        for begin, length in zip(records['begin'].tolist(), lengths.tolist()):
            source.seek(begin)
            target.write(source.read(length))
            bar.update(length)
    print(f'{name}: {len(records)} records copied, {len(file.records) - len(records)} left out')
    num_empty = len(set(range(len(file.classes or ()))) - set(records['label'].tolist()))
    if num_empty:
        print(f'{name}: classes without an image in the copy: {num_empty}')
    keys = unique_keys(file, is_right)
    copy_list(file.path.with_suffix('.lst'), folder, keys)
    keys = range(len(records)) if keys is None else keys.tolist()
    offsets = (np.cumsum(lengths) - lengths).tolist()
    with index_path(folder / name).open('w') as lines:
        lines.writelines(f'{key}\t{offset}\n' for key, offset in zip(keys, offsets))


def unique_keys(file, is_right):
    """Return unique keys for the copied records: the index's, else the records' own; None if neither are unique."""
    candidates = [file.records['id'][is_right]]
    numbers = file.numbers[is_right]
    if (numbers >= 0).all():
        candidates.insert(0, file.index.keys[numbers])
    return next((keys for keys in candidates if len(np.unique(keys)) == len(keys)), None)


def copy_list(path, folder, keys):
    """Copy the lines of an im2rec list that have these keys, provided that every key has one line."""
    if not path.is_file():
        return
    wanted = set() if keys is None else {str(key).encode() for key in keys.tolist()}
    copied = 0
    with path.open('rb') as lines, (folder / path.name).open('wb') as target:
        for line in lines:
            if line.split(b'\t', 1)[0] in wanted:
                target.write(line)
                copied += 1
    if keys is None or copied != len(wanted):
        (folder / path.name).unlink()
        print(f'{path.name}: left out, its keys are not those of the records')


def copy_small_files(folder, new):
    for path in sorted(folder.iterdir()):
        if path.suffix in DATA_SUFFIXES or path.name.startswith('.'):
            continue
        if path.name == STALE_AFTER_REPAIR:
            print(f'{path.name}: left out, it describes the original data set')
        elif not path.is_file() or path.stat().st_size > SMALL_FILE_BYTES:
            print(f'{path.name}: left out, it is not a regular file of at most 1 MB')
        else:
            shutil.copy(path, new)


def bar_of(name, size):
    """Return a progress bar over the bytes of a file."""
    # `disable=None`: shown only on a terminal.
    return tqdm(desc=name, total=size, unit='B', unit_scale=True, disable=None, leave=False)
