#!/usr/bin/env python
"""Reads every record of a data set and says what is wrong with it; with --repair, writes a copy of what is right."""

import argparse
import json
import os
import signal
import sys
from collections import namedtuple
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate

sys.path.append(str(Path(__file__).resolve().parents[1]))

from clean_copy import READ_AT_ONCE, bar_of, repair

import compat
from bounded_map import map_in_order
from class_names import read_class_names
from errors import UserError, one_line_errors
from files import write_atomically
from images import JPEG_END, decode_image, is_cut_short
from options import ArgumentParser
from recordio import index_path, read_index_lines, scan_records, unpack_image

DETAILS = """\
exit code: 0 all is well; 1 something is wrong with the data set, whether or not --repair wrote a copy; 2 a mistake in
the command, or a file that cannot be read or written.

An image is right if OpenCV decodes it to its end; bytes changed in the middle of a JPEG mostly go unnoticed. A record's
number is its line in the index, from 0.

The copy of --repair holds, in the order of the file and byte for byte, every record that is whole, with an image that
decodes and a label that names a class, whether or not the old index had it. Keys stay as they are in the index where
each record has one of its own; else they are the records' own ids, if those differ from each other; else the records
are numbered from 0. A .lst keeps the lines of the records that remain, and is left out where its keys are not theirs.
dataset.json is left out, for it describes the old records; other files of up to 1 MB are copied. Classes without an
image are the one thing that a copy cannot mend."""

SHOWN_OF_EACH_KIND = 20
CLASSES_IN_TABLE = 30
CLASSES_NAMED = 5

# What is kept of each stretch of a record file.
ROW = np.dtype([('begin', 'i8'), ('end', 'i8'), ('label', 'f8'), ('id', 'u8'), ('fault', 'i1')])
NO_FAULT, NO_RECORD, NO_IMAGE, UNDECODABLE, CUT_SHORT = range(5)

# In the order in which they are listed.
KINDS = {
    'damaged': 'bytes that are no record',
    'end': 'record files that do not end with a whole record',
    'index': 'indexes that cannot be used',
    'index length': 'indexes with more or fewer lines than there are records',
    'no record': 'index lines that point at no record',
    'same offset': 'index lines that point at the same record as another',
    'same key': 'index lines with the same key as another',
    'not indexed': 'records that are not in the index',
    'no image': 'records that are too short for an image',
    'undecodable': 'images that do not decode',
    'cut short': 'JPEGs that are cut short',
    'label': 'labels that name no class',
    'empty class': 'classes without an image',
}
IMAGE_FAULTS = {
    NO_IMAGE: ('no image', 'is too short for an image'),
    UNDECODABLE: ('undecodable', 'image does not decode'),
    CUT_SHORT: ('cut short', 'JPEG is cut short'),
}

# `record` and `offset`, the record's number and its first byte, are None where there is none.
Problem = namedtuple('Problem', 'kind message record offset')
Index = namedtuple('Index', 'keys offsets')


def find_record_files(path):
    """The record files of a folder, or the one that was named.

    Raises:
        UserError: there are none.
    """
    if path.is_file() and path.suffix == '.rec':
        return [path]
    if not path.is_dir():
        raise UserError(f'{path}: no such folder; needed is one with record files, or a single .rec file')
    found = sorted(file for file in path.glob('*.rec') if not file.name.startswith('.'))
    if not found:
        raise UserError(f'{path}: no .rec file in this folder; make a data set with prepare_imagenet.sh')
    return found


def check_options(args, folder):
    """Raises `UserError` for what would fail in the end, before hours are spent on reading."""
    if args.threads < 1:
        raise UserError(f'--threads {args.threads}: needed is at least 1')
    if args.output and (args.output.suffix != '.json' or args.output.is_dir() or not args.output.parent.is_dir()):
        raise UserError(f'--output {args.output}: needed is the name of a .json file in a folder that is there')
    if args.repair:
        check_new_folder(args.repair, folder)


def check_new_folder(new, folder):
    if new.resolve() == folder.resolve():
        raise UserError(f'--repair {new}: this is the folder that is checked; name another one')
    try:
        if new.exists():
            new.rmdir()
    except OSError as error:
        raise UserError(f'--repair {new}: cannot be used ({error.strerror}); name a folder to be made') from None
    nearest = next(parent for parent in new.absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f'--repair {new}: cannot be made in {nearest}; name another folder')


class CheckedFile:
    """What is known of a record file after all of it was read.

    Args:
        classes: their names, or None where nobody named them.
        rows: what `read_rows` gives.

    Attributes:
        index: an `Index`, or None where there is none to be used.
        records: a `ROW` for each record, in the order of the file.
        numbers: the records' lines in the index; -1 for a record that is not there.
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
            yield Problem('end', f'{self.path}: holds no record', None, 0)
        for begin, end in zip(gaps['begin'].tolist(), gaps['end'].tolist()):
            if end == self.size:
                message = f'{self.path}: bytes {begin} to {end}, the end of the file, are no whole record'
                yield Problem('end', message, None, begin)
            else:
                yield Problem('damaged', f'{self.path}: bytes {begin} to {end} are no record', None, begin)

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
    def has_label(self):
        return self.records['fault'] != NO_IMAGE

    @property
    def has_class(self):
        """Per record, whether its label is a whole number that names a class."""
        labels = self.records['label']
        is_whole = (labels >= 0) & (labels < np.inf) & (labels == np.floor(labels))
        return is_whole if self.classes is None else is_whole & (labels < len(self.classes))

    @property
    def is_right(self):
        """Per record, whether a copy would hold it."""
        return (self.records['fault'] == NO_FAULT) & self.has_class

    def histogram(self):
        """The number of records of each label that could name a class, by label."""
        labels = self.records['label'][self.has_class]
        return {int(label): int(count) for label, count in zip(*np.unique(labels, return_counts=True))}


def read_rows(path, num_threads):
    """Reads a record file from end to end: an array of a `ROW` per stretch.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open('rb', READ_AT_ONCE) as file, bar_of(path.name, path.stat().st_size) as bar:
            stretches = with_progress(scan_records(file), bar)
            return np.fromiter(map_in_order(look_at, stretches, num_threads), dtype=ROW)
    except OSError as error:
        raise UserError(f'{path}: cannot read this record file ({error.strerror})') from None


def with_progress(stretches, bar):
    for stretch in stretches:
        bar.update(stretch.end - stretch.begin)
        yield stretch


def look_at(stretch):
    """The `ROW` of a stretch."""
    begin, end, payload = stretch
    if payload is None:
        return begin, end, np.nan, 0, NO_RECORD
    record = unpack_image(payload)
    if record is None:
        return begin, end, np.nan, 0, NO_IMAGE
    return begin, end, record.label, record.key, find_image_fault(record.image)


def find_image_fault(encoded):
    try:
        if decode_image(encoded) is None:
            return UNDECODABLE
    except cv2.error:
        # Such as a size that no image has.
        return UNDECODABLE
    # It costs another decoding to know, and nearly every JPEG that is not cut short ends with its mark.
    may_be_cut_short = bytes(encoded[-len(JPEG_END) :]) != JPEG_END
    return CUT_SHORT if may_be_cut_short and is_cut_short(encoded) else NO_FAULT


def repeated(values):
    """Yields (line, first line of the same value) for each line of an index whose value was there before."""
    _, first_lines, groups = np.unique(values, return_index=True, return_inverse=True)
    first_lines = first_lines[groups]
    for line in np.flatnonzero(first_lines != np.arange(len(values))):
        yield int(line), int(first_lines[line])


def print_files(checked):
    rows = [
        (
            file.path.name,
            file.size,
            len(file.records),
            '-' if file.index is None else len(file.index.offsets),
            int((file.records['fault'] == NO_FAULT).sum()),
        )
        for file in checked
    ]
    print(tabulate(rows, headers=('file', 'bytes', 'records', 'index lines', 'whole images')), end='\n\n')


def print_histogram(checked, classes):
    """Images per class: all of them where they are few, else the extremes."""
    histograms = {file.path.stem: file.histogram() for file in checked}
    names = dict(enumerate(classes or ()))
    for label in sorted(set().union(*histograms.values())):
        names.setdefault(label, f'class {label}')
    if len(names) <= CLASSES_IN_TABLE:
        rows = [
            (label, name, *(histogram.get(label, 0) for histogram in histograms.values()))
            for label, name in names.items()
        ]
        # Names may look like numbers.
        print(tabulate(rows, headers=('label', 'class', *histograms), disable_numparse=[1]), end='\n\n')
        return
    counts = {split: np.array([histogram.get(label, 0) for label in names]) for split, histogram in histograms.items()}
    rows = [(split, len(names), of.min(), f'{np.median(of):g}', of.max()) for split, of in counts.items()]
    print(tabulate(rows, headers=('images per class', 'classes', 'least', 'median', 'most')), end='\n\n')
    for split, of in counts.items():
        order = np.argsort(of, kind='stable')
        for title, chosen in (('rarest', order[:CLASSES_NAMED]), ('most frequent', order[::-1][:CLASSES_NAMED])):
            named = ', '.join(f'{list(names.values())[position]} ({of[position]})' for position in chosen)
            print(f'{split}, {title}: {named}')
    print()


def print_problems(problems):
    """A list for each kind, cut after its first ones."""
    for kind, of_kind in groupby(sorted(problems, key=_rank), key=lambda problem: problem.kind):
        of_kind = list(of_kind)
        print(f'{KINDS[kind]}: {len(of_kind)}')
        for problem in of_kind[:SHOWN_OF_EACH_KIND]:
            print(f'  {problem.message}')
        if len(of_kind) > SHOWN_OF_EACH_KIND:
            print(f'  … and {len(of_kind) - SHOWN_OF_EACH_KIND} more')
        print()


def _rank(problem):
    return list(KINDS).index(problem.kind)


def write_output(path, checked, classes):
    """Writes all that was found as JSON.

    Raises:
        UserError: it cannot be written.
    """
    content = {
        'classes': classes,
        'files': [
            {
                'path': str(file.path),
                'bytes': file.size,
                'records': len(file.records),
                'index_lines': None if file.index is None else len(file.index.offsets),
                'histogram': file.histogram(),
                'problems': [problem._asdict() for problem in file.problems],
            }
            for file in checked
        ],
    }
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(content, indent=1) + '\n'))


def check(args):
    """Does what the options ask for; returns the exit code."""
    paths = find_record_files(args.path)
    folder = paths[0].parent
    check_options(args, folder)
    classes = read_class_names(folder)
    checked = [CheckedFile(path, classes, read_rows(path, args.threads)) for path in paths]
    problems = [problem for file in checked for problem in file.problems]
    if args.output:
        write_output(args.output, checked, classes)
    print_files(checked)
    print_histogram(checked, classes)
    print_problems(problems)
    verdict = f'problems found: {len(problems)}' if problems else 'all is well'
    print(f'{args.path}: {verdict}; records read: {sum(len(file.records) for file in checked)}')
    if args.repair and all(problem.kind == 'empty class' for problem in problems):
        print(f'{args.repair}: not written, there is nothing that a copy would mend')
    elif args.repair:
        repair(checked, classes, args.repair)
    return 1 if problems else 0


def main():
    parser = ArgumentParser(description=__doc__, epilog=DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', type=Path, help='the folder of the data set, or a single .rec file')
    parser.add_argument('--repair', type=Path, metavar='NEW_DIR', help='the folder of a clean copy, which is made')
    parser.add_argument('--output', type=Path, metavar='FILE.json', help='write all problems and counts there as well')
    parser.add_argument(
        '--threads', type=int, default=len(compat.own_cores), help='threads that decode (default: the cores)'
    )
    args = parser.parse_args()
    # As any filter, end without a word when `head` or `less` does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Names of files may be no text at all.
    sys.stdout.reconfigure(errors='backslashreplace')
    # The threads here are enough.
    cv2.setNumThreads(0)
    with one_line_errors():
        sys.exit(check(args))


if __name__ == '__main__':
    main()
