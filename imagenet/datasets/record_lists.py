"""The list next to a record file: a line for each record with its key, its label and the name of its image file.

MXNet's im2rec.py and scripts/prepare_dataset.py write it, as `train.lst` for `train.rec`; nothing needs it to read
records.
"""

import os
from pathlib import Path

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.text import printable
from imagenet.datasets.records import read_index_lines

# What reading an index or a list raises if it is missing or something else.
NOT_A_LIST = (OSError, UserError, ValueError, OverflowError)


def read_listed_files(record_path, idx_path):
    """Return the names of the records' image files, in the order of the index; None if there is no list of them."""
    try:
        keys = read_index_lines(idx_path)[:, 0].tolist()
        names = {key: name for key, _, name in _read_lines(record_path)}
    except NOT_A_LIST:
        return None
    return [printable(os.fsdecode(names[key])) for key in keys] if names.keys() == set(keys) else None


def count_listed_labels(record_path, idx_path, num_classes):
    """Return the number of records of each class, int64 `(num_classes,)`; None if there is no list of them."""
    try:
        keys = read_index_lines(idx_path)[:, 0]
        listed = np.array([(key, label) for key, label, _ in _read_lines(record_path)], dtype=np.int64).reshape(-1, 2)
    except NOT_A_LIST:
        return None
    labels = listed[:, 1]
    is_complete = np.array_equal(np.sort(listed[:, 0]), np.sort(keys))
    is_known = is_complete and labels.min() >= 0 and labels.max() < num_classes
    return np.bincount(labels, minlength=num_classes) if is_known else None


def _read_lines(record_path):
    """Yield (key, label, name) for each record that is listed."""
    with Path(record_path).with_suffix('.lst').open('rb') as lines:
        for line in lines:
            key, label, name = line.rstrip(b'\r\n').split(b'\t')
            yield int(key), int(float(label)), name
