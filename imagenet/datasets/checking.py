"""Finds every problem of a record file and its index."""

from collections import namedtuple
from functools import partial

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.parallel import map_in_order
from imagenet.datasets import decoding
from imagenet.datasets.codec_messages import captured_messages
from imagenet.datasets.image_header import UPRIGHT, read_header
from imagenet.datasets.records import index_path, read_index_lines, read_whole_record, scan_records, unpack_image
from imagenet.datasets.repair import READ_AT_ONCE, bar_of

# The facts kept about each stretch of a record file.
ROW = np.dtype([('begin', 'i8'), ('end', 'i8'), ('label', 'f8'), ('id', 'u8'), ('fault', 'i1'), ('orientation', 'i1')])
NO_FAULT, NO_RECORD, NO_IMAGE, UNDECODABLE, CUT_SHORT, OTHER_FORMAT, CORRUPT, SEVERAL_LABELS, SUSPICIOUS = range(9)
NO_TAG = -1
CORRUPT_MESSAGE = b'Corrupt JPEG data'

# Kinds of problems and their headings, in the order of the output.
KINDS = {
    'damaged': 'bytes that are not a record',
    'end': 'record files that do not end with a complete record',
    'index': 'indexes that cannot be used',
    'index length': 'indexes with more or fewer lines than there are records',
    'no record': 'index lines that do not point at a record',
    'same offset': 'index lines that point at the same record as an earlier line',
    'same key': 'index lines with the same key as an earlier line',
    'not indexed': 'records that are not in the index',
    'no image': 'records that are too short to hold an image',
    'undecodable': 'images that do not decode',
    'cut short': 'JPEGs that are cut short',
    'corrupt': 'JPEGs with damaged data',
    'format': 'images that not every reader decodes',
    'several labels': 'records with several labels',
    'label': 'labels that do not name a class',
    'empty class': 'classes without an image',
}
IMAGE_FAULTS = {
    NO_IMAGE: ('no image', 'too short to contain an image'),
    UNDECODABLE: ('undecodable', 'image does not decode'),
    CUT_SHORT: ('cut short', 'JPEG is cut short'),
    CORRUPT: ('corrupt', 'JPEG data is damaged: libjpeg decodes it with a warning'),
    OTHER_FORMAT: ('format', 'image has a format that not every reader decodes'),
    SEVERAL_LABELS: ('several labels', 'has several labels, but a classifier learns one'),
}
FAULTS = {
    decoding.UNDECODABLE: UNDECODABLE,
    decoding.TOO_LARGE: UNDECODABLE,
    decoding.TOO_NARROW: UNDECODABLE,
    decoding.CUT_SHORT: CUT_SHORT,
    decoding.OTHER_FORMAT: OTHER_FORMAT,
}

# `record` is the record's number and `offset` its first byte; each is None if it does not apply.
Problem = namedtuple('Problem', 'kind message record offset')
Index = namedtuple('Index', 'keys offsets')


def find_record_files(path):
    """Return the record files in a folder, or the file itself if `path` is a record file.

    Raises:
        UserError: the folder does not exist or has no record files.
    """
    if path.is_file() and path.suffix == '.rec':
        return [path]
    if not path.is_dir():
        raise UserError(f'{path}: no such folder; name a folder with record files, or a single .rec file')
    found = sorted(file for file in path.glob('*.rec') if file.is_file() and not file.name.startswith('.'))
    if not found:
        raise UserError(f'{path}: no .rec file in this folder; create a data set with prepare_imagenet.sh')
    return found


class CheckedFile:
    """A record file that was read completely: its records, its index and its problems.

    Args:
        classes: the names of the classes, or None if they are unknown.
        rows: the result of `read_rows`.

    Attributes:
        index: an `Index`, or None if the index is missing or unusable.
        records: a `ROW` for each record, in the order of the file.
        numbers: each record's line in the index; -1 if the index does not list it.
        problems: a list of `Problem`.
    """

    def __init__(self, path, classes, rows):
        self.path, self.classes = path, classes
        self.size = int((rows['end'] - rows['begin']).sum())
        self.index, index_problem = self._read_index()
        self.records = rows[rows['fault'] != NO_RECORD]
        self.numbers = self._find_numbers()
        self.problems = [
            *self._damage(rows[rows['fault'] == NO_RECORD]),
            *([index_problem] if index_problem else self._index_problems()),
            *self._image_problems(),
            *self._label_problems(),
            *self._empty_classes(),
        ]

    def _read_index(self):
        try:
            lines = read_index_lines(index_path(self.path))
        except UserError as error:
            return None, Problem('index', str(error), None, None)
        return Index(*lines.T), None

    def _find_numbers(self):
        numbers = np.full(len(self.records), -1)
        if self.index is not None:
            offsets, first_lines = np.unique(self.index.offsets, return_index=True)
            places = np.minimum(np.searchsorted(offsets, self.records['begin']), len(offsets) - 1)
            is_indexed = offsets[places] == self.records['begin']
            numbers[is_indexed] = first_lines[places[is_indexed]]
        return numbers

    def _damage(self, gaps):
        if len(self.records) == 0:
            yield Problem('end', f'{self.path}: contains no records', None, 0)
        for begin, end in zip(gaps['begin'].tolist(), gaps['end'].tolist()):
            if end == self.size:
                message = f'{self.path}: bytes {begin} to {end}, the end of the file, are not a complete record'
                yield Problem('end', message, None, begin)
            else:
                yield Problem('damaged', f'{self.path}: bytes {begin} to {end} are not a record', None, begin)

    def _index_problems(self):
        path, (keys, offsets), begins = index_path(self.path), self.index, self.records['begin']
        if len(offsets) != len(begins):
            yield Problem('index length', f'{path}: {len(offsets)} lines for {len(begins)} records', None, None)
        for number in np.flatnonzero(~np.isin(offsets, begins)).tolist():
            message = f'{path}: record {number} points at byte {offsets[number]}, where no record starts'
            yield Problem('no record', message, number, int(offsets[number]))
        for number, first in repeated(offsets):
            message = f'{path}: record {number} points at byte {offsets[number]}, as record {first} does'
            yield Problem('same offset', message, number, int(offsets[number]))
        for number, first in repeated(keys):
            message = f'{path}: record {number} has key {keys[number]}, as record {first} has'
            yield Problem('same key', message, number, int(offsets[number]))
        for begin in begins[self.numbers < 0].tolist():
            yield Problem('not indexed', f'{self.path}: the record at byte {begin} is not in the index', None, begin)

    def _image_problems(self):
        for position in np.flatnonzero(self.records['fault']):
            kind, message = IMAGE_FAULTS[self.records['fault'][position]]
            yield self._problem_of_record(kind, position, message)

    def _label_problems(self):
        allowed = '' if self.classes is None else f', but classes.txt names {len(self.classes)} classes'
        for position in np.flatnonzero(self.has_label & ~self.has_class):
            yield self._problem_of_record('label', position, f'label {self.records["label"][position]:.9g}{allowed}')

    def _empty_classes(self):
        histogram = self.histogram()
        for label, name in enumerate(self.classes or ()):
            if label not in histogram:
                yield Problem('empty class', f'{self.path}: no image of class {label}, {name}', None, None)

    def _problem_of_record(self, kind, position, message):
        number, begin = int(self.numbers[position]), int(self.records['begin'][position])
        if number < 0:
            return Problem(kind, f'{self.path}: record at byte {begin}, not in the index: {message}', None, begin)
        return Problem(kind, f'{self.path}: record {number} at byte {begin}: {message}', number, begin)

    @property
    def num_oriented(self):
        """The number of images with an EXIF orientation tag, and how many of them are not upright."""
        orientations = self.records['orientation']
        return int((orientations != NO_TAG).sum()), int((orientations > UPRIGHT).sum())

    @property
    def has_label(self):
        return self.records['fault'] != NO_IMAGE

    @property
    def has_class(self):
        """For each record, whether its label is an integer that names a class."""
        labels = self.records['label']
        is_whole = (labels >= 0) & (labels < np.inf) & (labels == np.floor(labels))
        return is_whole if self.classes is None else is_whole & (labels < len(self.classes))

    @property
    def is_right(self):
        """For each record, whether it is intact and so belongs in a repaired copy."""
        return (self.records['fault'] == NO_FAULT) & self.has_class

    def histogram(self):
        """Return the number of records per label, for the labels that name a class."""
        labels = self.records['label'][self.has_class]
        return {int(label): int(count) for label, count in zip(*np.unique(labels, return_counts=True))}


def read_rows(path, num_threads):
    """Read a record file from start to end and return an array with a `ROW` for each stretch.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open('rb', READ_AT_ONCE) as file, captured_messages() as messages:
            with bar_of(path.name, path.stat().st_size) as bar:
                stretches = with_progress(scan_records(file), bar)
                rows = map_in_order(partial(look_at, messages), stretches, num_threads)
                rows = np.fromiter(rows, dtype=ROW)
            look_again(file, rows, messages)
            return rows
    except OSError as error:
        raise UserError(f'{path}: cannot read this record file ({error.strerror})') from None


def with_progress(stretches, bar):
    for stretch in stretches:
        bar.update(stretch.end - stretch.begin)
        yield stretch


def look_at(messages, stretch):
    """Return the `ROW` of a stretch."""
    begin, end, payload = stretch
    if payload is None:
        return begin, end, np.nan, 0, NO_RECORD, NO_TAG
    record = unpack_image(payload)
    if record is None:
        return begin, end, np.nan, 0, NO_IMAGE, NO_TAG
    header = read_header(record.image)
    orientation = NO_TAG if header is None or header.orientation is None else header.orientation
    printed = messages.size()
    fault = find_image_fault(record.image)
    if fault == NO_FAULT and record.num_labels > 1:
        fault = SEVERAL_LABELS
    # All threads print to the same place, so the message may be about another image.
    if fault == NO_FAULT and header.format == 'JPEG' and messages.size() > printed:
        fault = SUSPICIOUS
    return begin, end, record.label, record.key, fault, orientation


def find_image_fault(encoded):
    try:
        decoding.decode_record_image(encoded)
    except decoding.RefusedImageError as error:
        return FAULTS[error.kind]
    return NO_FAULT


def look_again(file, rows, messages):
    """Decode each suspicious JPEG alone, to find those that libjpeg calls corrupt."""
    for position in np.flatnonzero(rows['fault'] == SUSPICIOUS):
        payload, _ = read_whole_record(file, int(rows['begin'][position]))
        printed = messages.size()
        find_image_fault(unpack_image(payload).image)
        rows['fault'][position] = CORRUPT if CORRUPT_MESSAGE in messages.after(printed) else NO_FAULT


def repeated(values):
    """Yield (line, first line with the same value) for each index line that repeats an earlier value."""
    _, first_lines, groups = np.unique(values, return_index=True, return_inverse=True)
    first_lines = first_lines[groups]
    for line in np.flatnonzero(first_lines != np.arange(len(values))):
        yield int(line), int(first_lines[line])
