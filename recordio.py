"""What can be known about a record file without decoding it, and whether it can be trusted.

MXNet's reader ends the process without a word when a record file is damaged, so files are looked at here before a
reader is built. The format, from dmlc-core's `recordio.h`: each record starts at a multiple of 4 bytes with the magic
number and a word that holds a 3-bit continuation flag and a 29-bit length; the payload follows. An image's payload
starts with MXNet's `IRHeader`: flag, label, id, id2. The index has a line per record: its key and its byte offset.
"""

import struct
from pathlib import Path

import numpy as np

from errors import UserError

MAGIC = 0xCED7230A
RECORD_HEADER = struct.Struct('<II')
IMAGE_HEADER = struct.Struct('<IfQQ')
LENGTH_BITS = 29
# Continuation flags: a payload that contains the magic number is cut there, and written as several pieces.
WHOLE, FIRST_PIECE, LAST_PIECE = 0, 1, 3
# Enough to tell a wrong file from a right one, and few enough to read at once from a disk that is far away.
RECORDS_LOOKED_AT = 1000


def index_path(record_path, given=None):
    """The index of a record file: the one that was given, else the file of the same name beside it."""
    return Path(given) if given else Path(record_path).with_suffix('.idx')


def read_index(path):
    """Byte offsets of the records, an int64 array of shape (records,), in the order of the index.

    Raises:
        UserError: there is no index, or it is not one.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(
            f'{path}: cannot read this index ({error.strerror}); make it with prepare_imagenet.sh'
        ) from None
    try:
        words = np.array(text.split(), dtype=np.float64)
    except ValueError:
        raise UserError(f'{path}: not an index (its lines should be a key, a tab and a byte offset)') from None
    if len(words) == 0:
        raise UserError(f'{path}: this index is empty; make the data set again with prepare_imagenet.sh')
    if len(words) % 2:
        raise UserError(f'{path}: not an index, or cut short (an odd number of numbers)')
    return words[1::2].astype(np.int64)


def check_record_file(record_path, idx_path, num_classes):
    """Looks at a record file and its index: that they belong together, are whole, and have labels below `num_classes`.

    Reads the ends of the file and a thousand records spread over it.

    Returns:
        The number of records.

    Raises:
        UserError: the files cannot be used, and why.
    """
    record_path = Path(record_path)
    try:
        size = record_path.stat().st_size
        file = record_path.open('rb')
    except OSError as error:
        raise UserError(f'{record_path}: cannot read this record file ({error.strerror})') from None
    with file:
        if size == 0:
            raise UserError(f'{record_path}: this record file is empty; make the data set again')
        offsets = read_index(idx_path)
        if offsets.min() < 0 or offsets.max() >= size:
            raise UserError(
                f'{idx_path}: points at byte {offsets.max()} of {record_path}, which has {size}: '
                'the record file is cut short, or the index is of another one'
            )
        end = _end_of_record(file, int(offsets.max()))
        if end != size:
            raise UserError(
                f'{record_path}: its last record in {idx_path} ends at byte {end}, the file at {size}: '
                'the record file is cut short, or the index is of another one'
            )
        for position in np.unique(np.linspace(0, len(offsets) - 1, RECORDS_LOOKED_AT).astype(int)):
            label = _read_label(file, int(offsets[position]))
            if label is None:
                raise UserError(f'{idx_path}: byte {offsets[position]} of {record_path} is not the start of a record')
            if not (0 <= label < num_classes and label == int(label)):
                raise UserError(
                    f'{record_path}: record {position} has label {label:g}; '
                    f'--num-classes {num_classes} allows 0 to {num_classes - 1}'
                )
    return len(offsets)


def _read_record_header(file, offset):
    """(continuation flag, payload length) of the record at a byte offset; None where no record starts."""
    file.seek(offset)
    header = file.read(RECORD_HEADER.size)
    if len(header) < RECORD_HEADER.size:
        return None
    magic, word = RECORD_HEADER.unpack(header)
    return (word >> LENGTH_BITS, word & ((1 << LENGTH_BITS) - 1)) if magic == MAGIC else None


def _end_of_record(file, offset):
    """The byte after the record at an offset, its padding and further pieces included; None where no record starts."""
    while True:
        header = _read_record_header(file, offset)
        if header is None:
            return None
        continuation, length = header
        offset += RECORD_HEADER.size + (length + 3) // 4 * 4
        if continuation in (WHOLE, LAST_PIECE):
            return offset


def _read_label(file, offset):
    header = _read_record_header(file, offset)
    if header is None or header[0] not in (WHOLE, FIRST_PIECE):
        return None
    payload = file.read(IMAGE_HEADER.size)
    return IMAGE_HEADER.unpack(payload)[1] if len(payload) == IMAGE_HEADER.size else None
