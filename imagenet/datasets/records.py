"""Record files: random access, scanning from start to end, packing, and checks.

MXNet's reader ends the process without a message if a record file is damaged, so files are checked here before a reader
is built.

The format, from dmlc-core's `recordio.h`: each record starts at a multiple of 4 bytes with the magic number and a word
that contains a 3-bit continuation flag and a 29-bit length; the payload follows. An image's payload starts with MXNet's
`IRHeader`: flag, label, id, id2. If the flag is not 0, it is the number of labels that follow the header and replace
its label. The index has one line per record: its key and its byte offset. Here, a record's number is its line in the
index, from 0.
"""

import mmap
import os
import stat
import struct
import warnings
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.files import read_regular_file
from imagenet.datasets.image_header import JPEG_START

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack('<I', MAGIC)
RECORD_HEADER = struct.Struct('<II')
IMAGE_HEADER = struct.Struct('<IfQQ')
LABEL = struct.Struct('<f')
LENGTH_BITS = 29
# Continuation flags: a payload that contains the magic number is split there and written in several pieces.
WHOLE, FIRST_PIECE, MIDDLE_PIECE, LAST_PIECE = 0, 1, 2, 3
# Enough to detect a wrong file, and few enough to read quickly from a remote disk.
RECORDS_LOOKED_AT = 1000
# A multiple of 4, because records start at multiples of 4.
SEARCHED_AT_ONCE = 1 << 16

# What `read_ends` reads of a large JPEG: its header, unless that contains a large thumbnail, and its end marker.
START_BYTES, END_BYTES = 1 << 12, 16

# `image` is the encoded image: bytes, or a view of them.
Record = namedtuple('Record', 'key label image num_labels')
# Bytes of a record file: a complete record with its payload, or bytes that are not a record (then `payload` is None).
Stretch = namedtuple('Stretch', 'begin end payload')


def index_path(record_path, given=None):
    """Return the path of a record file's index: the given one, else the .idx file of the same name next to it."""
    return Path(given) if given else Path(record_path).with_suffix('.idx')


def read_index(path):
    """Return the records' byte offsets in index order, int64 `(records,)`; raise the errors of `read_index_lines`."""
    return read_index_lines(path)[:, 1].copy()


def read_index_lines(path):
    """Return an index as an int64 array of shape (records, 2): key and byte offset of each record.

    Raises:
        UserError: the file cannot be read, or is not an index.
    """
    path = Path(path)
    try:
        text = read_regular_file(path)
    except OSError as error:
        raise UserError(
            f'{path}: cannot read this index ({error.strerror}); create it with prepare_imagenet.sh'
        ) from None
    try:
        with warnings.catch_warnings():
            # NumPy issues this warning if the text contains anything but numbers.
            warnings.simplefilter('error', DeprecationWarning)
            words = np.fromstring(text, dtype=np.int64, sep=' ')
    except (ValueError, DeprecationWarning):
        raise UserError(f'{path}: not an index (its lines should be a key, a tab and a byte offset)') from None
    if len(words) == 0:
        raise UserError(f'{path}: this index is empty; create the data set again with prepare_imagenet.sh')
    if len(words) % 2:
        raise UserError(f'{path}: not an index, or cut short (it contains an odd number of numbers)')
    # NumPy replaces numbers that are too large.
    wrong = words[(words < 0) | (words == np.iinfo(np.int64).max)]
    if len(wrong):
        raise UserError(f'{path}: not an index (it contains {wrong[0]}, which is not a key or a byte offset)')
    return words.reshape(-1, 2)


def check_record_file(record_path, idx_path, num_classes):
    """Check that a record file and its index belong together and are complete, with labels below `num_classes`.

    It reads the last record and a thousand records spread over the file.

    Returns:
        The number of records.

    Raises:
        UserError: the files cannot be used; the message gives the reason.
    """
    record_path = Path(record_path)
    size = _size_of(record_path)
    offsets = read_index(idx_path)
    check_offsets(offsets, size, record_path, idx_path)
    try:
        with record_path.open('rb') as file:
            _check_last_record(file, offsets, size, record_path, idx_path)
            for position in np.unique(np.linspace(0, len(offsets) - 1, RECORDS_LOOKED_AT).astype(int)).tolist():
                _check_record(file, position, int(offsets[position]), num_classes, record_path, idx_path)
    except OSError as error:
        raise UserError(f'{record_path}: cannot read this record file ({error.strerror})') from None
    return len(offsets)


def _size_of(record_path):
    """Return the size of a record file; raise `UserError` if it is none."""
    try:
        status = record_path.stat()
    except OSError as error:
        raise UserError(f'{record_path}: cannot read this record file ({error.strerror})') from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f'{record_path}: cannot read this record file (not a regular file)')
    if status.st_size == 0:
        raise UserError(f'{record_path}: this record file is empty; create the data set again')
    return status.st_size


def check_offsets(offsets, size, record_path, idx_path):
    """Raise `UserError` if an index points beyond the end of its record file, or twice at the same record."""
    if offsets.max() >= size:
        raise UserError(
            f'{idx_path}: points at byte {offsets.max()} of {record_path}, which has {size}: '
            'the record file is cut short, or the index belongs to another file'
        )
    ordered = np.sort(offsets)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise UserError(
            f'{idx_path}: points at byte {repeated[0]} of {record_path} more than once; '
            f'scripts/check_dataset.py {record_path.parent} lists all problems'
        )


def _check_last_record(file, offsets, size, record_path, idx_path):
    last = int(offsets.max())
    end = _end_of_record(file, last)
    if end is None:
        raise UserError(
            f'{idx_path}: byte {last} of {record_path} is not the start of a record: '
            'the index belongs to another file, or the record file is damaged'
        )
    if end != size:
        raise UserError(
            f'{record_path}: its last record in {idx_path} ends at byte {end}, the file at {size}: '
            'the record file is cut short, or the index belongs to another file'
        )


def _check_record(file, number, offset, num_classes, record_path, idx_path):
    record = _read_header_of_image(file, offset)
    if record is None:
        raise UserError(f'{idx_path}: byte {offset} of {record_path} is not the start of a record')
    where = f'{record_path}: record {number}'
    check_single_label(record, f'{where} at byte {offset}')
    if not (0 <= record.label < num_classes and record.label == int(record.label)):
        raise UserError(
            f'{where} has label {record.label:g}; --num-classes {num_classes} allows 0 to {num_classes - 1}'
        )


def check_single_label(record, where):
    """Raise `UserError` if a `Record` has several labels."""
    if record.num_labels > 1:
        raise UserError(
            f'{where} has {record.num_labels} labels, but a classifier learns one; pack the images again with one label'
        )


def _read_record_header(file, offset):
    """Return (continuation flag, payload length) of the record at a byte offset, or None if no record starts there."""
    file.seek(offset)
    header = file.read(RECORD_HEADER.size)
    if len(header) < RECORD_HEADER.size:
        return None
    magic, word = RECORD_HEADER.unpack(header)
    return (word >> LENGTH_BITS, word & ((1 << LENGTH_BITS) - 1)) if magic == MAGIC else None


def _end_of_record(file, offset):
    """Return the offset after a record with its padding and all its pieces, or None if no record starts there."""
    while True:
        header = _read_record_header(file, offset)
        if header is None:
            return None
        continuation, length = header
        offset += RECORD_HEADER.size + (length + 3) // 4 * 4
        if continuation in (WHOLE, LAST_PIECE):
            return offset


def _read_header_of_image(file, offset):
    """Return the `Record` at a byte offset with an empty image, or None if no record with an image starts there."""
    header = _read_record_header(file, offset)
    if header is None or header[0] not in (WHOLE, FIRST_PIECE):
        return None
    # The first label may follow the header.
    payload = file.read(min(header[1], IMAGE_HEADER.size + LABEL.size))
    if len(payload) < IMAGE_HEADER.size:
        return None
    num_labels, label, key, _ = IMAGE_HEADER.unpack_from(payload)
    if num_labels:
        if len(payload) < IMAGE_HEADER.size + LABEL.size:
            return None
        (label,) = LABEL.unpack_from(payload, IMAGE_HEADER.size)
    return Record(key, label, b'', num_labels)


def _read_payload(data, begin=0):
    """Return (payload, byte after the record) of the record at a byte of `data`, or (None, None) if none starts there.

    The pieces of a split payload are joined with the magic number that it was split at.
    """
    pieces, view = [], memoryview(data)
    while True:
        if begin + RECORD_HEADER.size > len(view):
            return None, None
        magic, word = RECORD_HEADER.unpack_from(view, begin)
        continuation, length = word >> LENGTH_BITS, word & ((1 << LENGTH_BITS) - 1)
        begin += RECORD_HEADER.size
        is_expected = (WHOLE, FIRST_PIECE) if not pieces else (MIDDLE_PIECE, LAST_PIECE)
        if magic != MAGIC or continuation not in is_expected or begin + length > len(view):
            return None, None
        pieces.append(view[begin : begin + length])
        begin += (length + 3) // 4 * 4
        if continuation == WHOLE:
            return pieces[0], begin
        if continuation == LAST_PIECE:
            return memoryview(MAGIC_BYTES.join(pieces)), begin


def scan_records(file):
    """Yield a `Stretch` for every part of a record file, from its first byte to its last.

    After damage, it resumes at the next magic number that starts a complete record. It does not use the index.

    Args:
        file: a buffered file, open for reading; it is read in order.
    """
    size = os.fstat(file.fileno()).st_size
    position = damaged_from = 0
    while position < size:
        payload, end = read_whole_record(file, position)
        if payload is None:
            position = _find_magic(file, position + len(MAGIC_BYTES))
            continue
        if damaged_from < position:
            yield Stretch(damaged_from, position, None)
        yield Stretch(position, end, payload)
        position = damaged_from = end
    if damaged_from < size:
        yield Stretch(damaged_from, size, None)


def read_whole_record(file, begin):
    """Return (payload, byte after the record) of the record at a byte of a file, or (None, None) if it is not complete.

    Writers split payloads at the magic number, so a magic number inside a piece shows that the length is wrong.
    """
    pieces = []
    while True:
        header = _read_record_header(file, begin)
        if header is None:
            return None, None
        continuation, length = header
        padded_length = (length + 3) // 4 * 4
        is_expected = (WHOLE, FIRST_PIECE) if not pieces else (MIDDLE_PIECE, LAST_PIECE)
        piece = file.read(padded_length) if continuation in is_expected else b''
        if continuation not in is_expected or len(piece) < padded_length or len(_magic_positions(piece)):
            return None, None
        pieces.append(memoryview(piece)[:length])
        begin += RECORD_HEADER.size + padded_length
        if continuation == WHOLE:
            return pieces[0], begin
        if continuation == LAST_PIECE:
            return memoryview(MAGIC_BYTES.join(pieces)), begin


def _find_magic(file, begin):
    """Return the first multiple of 4 bytes, from `begin` on, that contains the magic number.

    If there is none, the result is the end of the file, or `begin` if that is beyond it.
    """
    file.seek(begin)
    for chunk in iter(lambda: file.read(SEARCHED_AT_ONCE), b''):
        positions = _magic_positions(chunk)
        if len(positions):
            return begin + int(positions[0])
        begin += len(chunk)
    return begin


def _magic_positions(data):
    """Return the multiples of 4 bytes at which `data` contains the magic number."""
    words = np.frombuffer(data, dtype='<u4', count=len(data) // 4)
    return 4 * np.flatnonzero(words == MAGIC)


def unpack_image(payload):
    """Return the `Record` in a payload, or None if the payload is too short."""
    if len(payload) < IMAGE_HEADER.size:
        return None
    num_labels, label, key, _ = IMAGE_HEADER.unpack_from(payload)
    begin = IMAGE_HEADER.size + 4 * num_labels
    if begin > len(payload):
        return None
    if num_labels:
        (label,) = LABEL.unpack_from(payload, IMAGE_HEADER.size)
    return Record(key, label, payload[begin:], num_labels)


def pack_image(key, label, image):
    """Return a complete record, including its padding, for an encoded image."""
    pieces = _cut_at_magic(IMAGE_HEADER.pack(0, label, key, 0) + image)
    flags = [WHOLE] if len(pieces) == 1 else [FIRST_PIECE, *[MIDDLE_PIECE] * (len(pieces) - 2), LAST_PIECE]
    return b''.join(
        RECORD_HEADER.pack(MAGIC, flag << LENGTH_BITS | len(piece)) + piece + bytes(-len(piece) % 4)
        for flag, piece in zip(flags, pieces)
    )


def _cut_at_magic(payload):
    """Return the parts of the payload between the multiples of 4 bytes where it contains the magic number."""
    pieces, begin, found = [], 0, payload.find(MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            pieces.append(payload[begin:found])
            begin = found + 4
        found = payload.find(MAGIC_BYTES, found + 1)
    return [*pieces, payload[begin:]]


class RecordFile:
    """A record file with random access; several threads may read at the same time.

    It is open until the end of a `with` block, or until `close()`.

    Args:
        use_mmap: whether images are views of the mapped file instead of copies.

    Raises:
        UserError: the record file or its index cannot be read.
    """

    def __init__(self, record_path, idx_path, use_mmap=False):
        self.path = Path(record_path)
        self._offsets = read_index(idx_path)
        size = _size_of(self.path)
        check_offsets(self._offsets, size, self.path, idx_path)
        try:
            self._file = self.path.open('rb', buffering=0)
        except OSError as error:
            raise UserError(f'{self.path}: cannot read this record file ({error.strerror})') from None
        # The numbers of the records, in the order of the file.
        self.in_file_order = np.argsort(self._offsets, kind='stable')
        ends = np.empty_like(self._offsets)
        ends[self.in_file_order] = np.append(self._offsets[self.in_file_order][1:], size)
        self._lengths = ends - self._offsets
        self._map = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ) if use_mmap else None

    def __len__(self):
        return len(self._offsets)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._map is not None:
            # Whoever still has an image keeps the mapping.
            with suppress(BufferError):
                self._map.close()
        self._file.close()

    def read(self, number):
        """Return one `Record`.

        Raises:
            UserError: the record is damaged or has several labels.
        """
        payload, _ = _read_payload(self._bytes(int(self._offsets[number]), int(self._lengths[number])))
        record = unpack_image(payload) if payload is not None else None
        if record is None:
            raise UserError(f'{self.where(number)} is damaged; run scripts/check_dataset.py {self.path.parent}')
        check_single_label(record, self.where(number))
        return record

    def read_ends(self, number):
        """Return one `Record` as `read` does, but of a large JPEG only the first and the last bytes.

        Raises:
            UserError: the record is damaged or has several labels.
        """
        offset, length = int(self._offsets[number]), int(self._lengths[number])
        if length <= START_BYTES + END_BYTES:
            return self.read(number)
        start = self._bytes(offset, START_BYTES)
        magic, word = RECORD_HEADER.unpack_from(start)
        record = unpack_image(start[RECORD_HEADER.size :])
        is_whole_jpeg = magic == MAGIC and word >> LENGTH_BITS == WHOLE and record and record.image[:3] == JPEG_START
        end = RECORD_HEADER.size + (word & ((1 << LENGTH_BITS) - 1))
        if not is_whole_jpeg or not START_BYTES < end <= length:
            return self.read(number)
        check_single_label(record, self.where(number))
        return record._replace(image=bytes(record.image) + bytes(self._bytes(offset + end - END_BYTES, END_BYTES)))

    def _bytes(self, offset, length):
        if self._map is not None:
            return memoryview(self._map)[offset : offset + length]
        try:
            return os.pread(self._file.fileno(), length, offset)
        except OSError as error:
            raise UserError(f'{self.path}: cannot read this record file ({error.strerror})') from None

    def expect(self, numbers):
        """Ask the kernel to prefetch records that will be read soon."""
        file = self._file.fileno()
        for number in numbers:
            os.posix_fadvise(file, int(self._offsets[number]), int(self._lengths[number]), os.POSIX_FADV_WILLNEED)

    def release(self):
        """Release the pages mapped so far; otherwise the process's memory would grow to the size of the file."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    def where(self, number):
        """Return a record's file, number and offset as text for messages."""
        return f'{self.path}: record {number} at byte {self._offsets[number]}'
