"""ImageNet in TFRecords as a source of images: the files that the converter for TPUs writes.

A file is a sequence of records: the length of the payload (8 bytes, little-endian), its checksum, the payload, and its
checksum. A checksum is a CRC-32C, rotated and added to a constant as in TensorFlow's `crc32c.h`. The payload is a
tf.train.Example, of which these features are read: image/encoded; image/class/label, which is 1 to N, as 0 is the
background class; image/class/synset or image/class/text; and image/filename.
"""

import os
import re
import struct
from collections import namedtuple
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import crc32c

from imagenet.common.errors import UserError
from imagenet.common.parallel import map_in_order
from imagenet.common.text import printable
from imagenet.datasets.class_names import MAX_NAME_LENGTH
from imagenet.datasets.image_files import Image, read_image_at, read_span, reading
from imagenet.datasets.progress import progress
from imagenet.datasets.sorting import sorted_lines
from imagenet.datasets.splits import SPLITS, first
from imagenet.datasets.tf_example import Example, MalformedError

SHARD_NAME = re.compile(r'(train|validation)-([0-9]{5})-of-([0-9]{5})')
PREFIXES = dict(zip(SPLITS, ('train', 'validation')))
LENGTH, CHECKSUM = struct.Struct('<Q'), struct.Struct('<I')
HEADER_BYTES = LENGTH.size + CHECKSUM.size
MASK_DELTA = 0xA282EAD8
# More than any image that is packed, and little enough for memory.
MAX_PAYLOAD_BYTES = 1 << 30
# Reading and checking a single record would take less time than handing it to a thread.
BYTES_AT_ONCE = 1 << 20

# Consecutive records of a file, from its number: the offset of each, and the end of the last.
Run = namedtuple('Run', 'number offsets end')
# A line of the index; `name` is that of the class.
Row = namedtuple('Row', 'label file place name')


def find_tfrecords(raw, threads):
    """Return the `TFRecords` in a folder, by split, for the splits that have any. Files with other names are ignored.

    Raises:
        UserError: files of a split are missing.
    """
    matches = [SHARD_NAME.fullmatch(path.name) for path in sorted(raw.iterdir())]
    files = [match for match in matches if match and (raw / match[0]).is_file()]
    by_split = {split: [match for match in files if match[1] == PREFIXES[split]] for split in SPLITS}
    return {split: TFRecords(raw, complete_names(raw, found), threads) for split, found in by_split.items() if found}


def complete_names(raw, matches):
    """Return the names of a split's files; raise `UserError` if their numbers are not 0 to N - 1 of N."""
    prefix, _, total = matches[0].groups()
    expected = [f'{prefix}-{number:05}-of-{total}' for number in range(int(total))]
    names = [match[0] for match in matches]
    others, missing = (sorted(set(some) - set(rest)) for some, rest in ((names, expected), (expected, names)))
    if others:
        raise UserError(f'{raw}: {first(others)} cannot be among the files {prefix}-*-of-{total}; move one set away')
    if missing:
        raise UserError(
            f'{raw}: {len(missing)} of the {len(expected)} files {prefix}-*-of-{total} are missing: {first(missing)}'
        )
    return names


class TFRecords:
    """The files of one split, as a source of images (see sources.py).

    An image's place is the number of its file, its offset in this file and its size.
    """

    words = {}

    def __init__(self, folder, names, threads):
        self.indexed_files = [folder / name for name in names]
        self._title = str(folder / SHARD_NAME.sub(r'\1-*-of-\3', names[0]))
        self._threads = threads

    def __str__(self):
        return self._title

    def classes(self, _skip, scratch):
        """Check all records, then yield the classes.

        Raises:
            UserError: a file is damaged, or its Examples are not those of a classifier's data set.
        """
        names = set()
        rows = map(parse_line, sorted_lines(self._index(), scratch))
        for expected, (label, rows_of_class) in enumerate(groupby(rows, attrgetter('label')), 1):
            if label != expected:
                raise UserError(f'{self}: no image has label {expected}, but one has {label}; labels must be 1 to N')
            one, *others = rows_of_class
            other = next((row for row in others if row.name != one.name), None)
            if other is not None:
                places = [f'class {row.name} at {self.path_of("", row.place)}' for row in (one, other)]
                raise UserError(f'{self}: label {label} is {" and ".join(places)}')
            if one.name in names:
                raise UserError(f'{self}: class {one.name} has label {label} and another one')
            names.add(one.name)
            yield one.name, [Image(row.file, row.place) for row in (one, *others)]
        if not names:
            raise UserError(f'{self}: no images in these files')

    def read(self, _name, place):
        number, offset, size = map(int, place.split())
        return read_image_at(self.indexed_files[number], offset, size)

    def path_of(self, _name, place):
        number, offset, _ = place.split()
        return Path(f'{self.indexed_files[int(number)]}:{offset}')

    def _index(self):
        """Yield a line per record; `parse_line` returns its parts."""
        with progress(sum(path.stat().st_size for path in self.indexed_files), unit='bytes') as advance:
            runs = (Run(number, *run) for number, path in enumerate(self.indexed_files) for run in find_runs(path))
            for lines, size in map_in_order(self._index_run, runs, self._threads):
                yield from lines
                advance(size)

    def _index_run(self, run):
        """Check some records; return a line for each, and how many bytes they take."""
        path, begin = self.indexed_files[run.number], run.offsets[0]
        content = memoryview(read_span(path, begin, run.end - begin))
        lines = []
        for offset, end in zip(run.offsets, [*run.offsets[1:], run.end]):
            payload = content[offset - begin + HEADER_BYTES : end - begin - CHECKSUM.size]
            if not is_intact(payload, content[end - begin - CHECKSUM.size : end - begin]):
                raise UserError(f'{path}: the record at byte {offset} has a wrong checksum; copy the file again')
            try:
                lines.append(describe_record(payload, run.number, path.name, offset))
            except MalformedError as error:
                raise UserError(f'{path}: the record at byte {offset} cannot be used: {error}') from None
        return lines, run.end - begin


def find_runs(path):
    """Yield (offsets, end) of runs of consecutive records that are read at once.

    Raises:
        UserError: the file is not a complete TFRecord file.
    """
    offsets = []
    for offset, end in find_records(path):
        offsets.append(offset)
        if end - offsets[0] >= BYTES_AT_ONCE:
            yield offsets, end
            offsets = []
    if offsets:
        yield offsets, end


def find_records(path):
    """Yield (offset, end) of each record, with its framing, of which the lengths are checked.

    Raises:
        UserError: the file is not a complete TFRecord file.
    """
    with reading(path), path.open('rb') as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            file.seek(offset)
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                raise UserError(f'{path}: cut short in the record at byte {offset}; copy the file again')
            if not is_intact(header[: LENGTH.size], header[LENGTH.size :]):
                raise UserError(f'{path}: the length at byte {offset} has a wrong checksum; not a TFRecord, or damaged')
            (length,) = LENGTH.unpack_from(header)
            end = offset + HEADER_BYTES + length + CHECKSUM.size
            if end > size:
                raise UserError(
                    f'{path}: cut short: the record at byte {offset} has {length} bytes, and the file ends at {size}'
                )
            if length > MAX_PAYLOAD_BYTES:
                raise UserError(f'{path}: the record at byte {offset} has {length} bytes; that cannot be an image')
            yield offset, end
            offset = end


def is_intact(content, checksum):
    """Return whether some bytes have this masked checksum, which is in bytes, too."""
    crc = crc32c.crc32c(content)
    rotated = crc >> 15 | crc << 17
    return (rotated + MASK_DELTA) & 0xFFFFFFFF == CHECKSUM.unpack(checksum)[0]


def describe_record(payload, number, shard, offset):
    """Return the line of the index for a record.

    Args:
        number: that of the file, whose name is `shard`.
        offset: where the record begins in the file.

    Raises:
        MalformedError: the payload is not an Example with an image and its label.
    """
    example = Example(payload)
    image, label = example.span('image/encoded'), example.integer('image/class/label')
    if image is None:
        raise MalformedError('it has no image/encoded')
    if label is None:
        raise MalformedError('it has no image/class/label')
    if label < 1:
        raise MalformedError(
            f'its image/class/label is {label}; labels must be 1 to N, because 0 is the background class'
        )
    name = text_of(example, 'image/class/synset') or text_of(example, 'image/class/text') or f'class {label - 1}'
    file = text_of(example, 'image/filename').rpartition('/')[2] or f'{shard}:{offset:012}'
    begin, end = image
    place = f'{number} {offset + HEADER_BYTES + begin} {end - begin}'
    # Lines are sorted as text.
    return f'{label:010}\t{file}\t{place}\t{name}\n'.encode()


def text_of(example, name):
    """Return a feature's text for a list, or '' if there is none; raise `MalformedError` if it is too long."""
    text = printable(example.text(name) or '')
    if len(text) > MAX_NAME_LENGTH:
        raise MalformedError(f'its {name} has {len(text)} characters')
    return text


def parse_line(line):
    label, *rest = line.decode().rstrip('\n').split('\t')
    return Row(int(label), *rest)
