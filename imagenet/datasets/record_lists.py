"""The list next to a record file: a line for each record with its key, its label and the name of its image file.

MXNet's im2rec.py and scripts/prepare_dataset.py write it, as `train.lst` for `train.rec`; nothing needs it to read
records.
"""

import os
from collections import namedtuple
from pathlib import Path

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.text import printable
from imagenet.datasets.records import read_index_lines

# Labels as int64 `(records,)`, and the names of image files, both in the order of the index.
RecordList = namedtuple('RecordList', 'labels files')


def read_record_list(record_path, idx_path):
    """Return the `RecordList` of a record file; None if there is none, or one of other records."""
    try:
        lines = Path(record_path).with_suffix('.lst').read_bytes().splitlines()
        keys = read_index_lines(idx_path)[:, 0].tolist()
        cells = (line.split(b'\t') for line in lines)
        listed = {int(key): (int(float(label)), name) for key, label, name in cells}
        if len(keys) != len(lines):
            return None
        found = [listed[key] for key in keys]
    except (OSError, UserError, ValueError, OverflowError, KeyError):
        return None
    labels, names = zip(*found)
    return RecordList(np.array(labels, dtype=np.int64), [printable(os.fsdecode(name)) for name in names])


def count_labels(listed, num_classes):
    """Return the number of records of each class, int64 `(num_classes,)`; None if a `RecordList` has other labels."""
    labels = listed.labels
    if labels.min() < 0 or labels.max() >= num_classes:
        return None
    return np.bincount(labels, minlength=num_classes)
