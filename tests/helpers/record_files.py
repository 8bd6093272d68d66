"""Record files and indexes, written byte by byte, and a check of them in this process."""

import numpy as np

from imagenet.datasets.checking import CheckedFile, find_record_files, read_rows
from imagenet.datasets.class_names import read_class_names


def write_records(folder, keys, data, split='val'):
    begins = np.cumsum([0, *map(len, data)])
    (folder / f'{split}.rec').write_bytes(b''.join(data))
    (folder / f'{split}.idx').write_text(''.join(f'{key}\t{begin}\n' for key, begin in zip(keys, begins)))


def edit_index(folder, edit):
    """Apply a function to the list of lines of the validation split's index."""
    path = folder / 'val.idx'
    lines = path.read_text().splitlines()
    edit(lines)
    path.write_text(''.join(f'{line}\n' for line in lines))


def assert_well(folder):
    """Assert that a data set has no problems, without starting the program."""
    checked = [
        CheckedFile(path, read_class_names(folder), read_rows(path, num_threads=2))
        for path in find_record_files(folder)
    ]
    assert [problem for file in checked for problem in file.problems] == []
