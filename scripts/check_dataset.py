#!/usr/bin/env python3
"""Check every record of a data set and report all problems; --repair writes a copy of the intact records."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('cv2', 'numpy', 'tabulate', 'tqdm')

import argparse
import json
import os
from itertools import groupby

import cv2
import numpy as np
from tabulate import tabulate

from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.files import write_atomically
from imagenet.common.options import ArgumentParser
from imagenet.common.output import continue_without_output
from imagenet.common.program import run_program
from imagenet.datasets.checking import KINDS, NO_FAULT, CheckedFile, find_record_files, read_rows
from imagenet.datasets.class_names import append_words, read_class_names, read_imagenet_words
from imagenet.datasets.repair import repair
from imagenet.runtime.threads import available_cores

DETAILS = """\
exit code: 0 if there are no problems; 1 if the data set has problems, whether or not --repair wrote a copy; 2 if the
command is wrong, or a file cannot be read or written.

An image is intact if every reader of record files decodes it to its end, and libjpeg has no warning. Changed bytes in
the middle of a JPEG can go unnoticed. A record's number is its line in the index, from 0.

The copy written by --repair contains every complete record whose image decodes and whose label names a class, in the
order of the file and byte for byte, even if the old index does not list the record. Keys are taken from the old index
if every copied record has a unique one there, else from the records' own ids if those are unique; else the records are
numbered from 0. A .lst file keeps the lines of the copied records; it is left out if its keys are not those of the
records. dataset.json is left out because it describes the original records. Other files of up to 1 MB are copied. The
one problem that a copy cannot fix is a class without images."""

SHOWN_OF_EACH_KIND = 20
CLASSES_IN_TABLE = 30
CLASSES_NAMED = 5


def check_options(args, folder):
    """Raise `UserError` if an option would fail later, before spending hours on reading the data set."""
    if args.threads < 1:
        raise UserError(f'--threads {args.threads}: must be at least 1')
    if args.output and (args.output.suffix != '.json' or args.output.is_dir() or not args.output.parent.is_dir()):
        raise UserError(f'--output {args.output}: must be the name of a .json file in an existing folder')
    if args.repair:
        check_new_folder(args.repair, folder)


def check_new_folder(new, folder):
    if new.resolve() == folder.resolve():
        raise UserError(f'--repair {new}: this is the folder that is checked; name another folder')
    try:
        if new.exists():
            new.rmdir()
    except OSError as error:
        raise UserError(f'--repair {new}: cannot be used ({error.strerror}); name a new folder') from None
    nearest = next(parent for parent in new.absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f'--repair {new}: cannot be made in {nearest}; name another folder')


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
    print(tabulate(rows, headers=('file', 'bytes', 'records', 'index lines', 'intact images')), end='\n\n')
    for file in checked:
        tagged, turned = file.num_oriented
        print(f'{file.path.name}: images with an EXIF orientation: {tagged}, of which {turned} are turned when decoded')
    print()


def print_histogram(checked, classes):
    """Print the number of images per class: for every class if there are few, else only the extremes."""
    histograms = {file.path.stem: file.histogram() for file in checked}
    names = dict(enumerate(classes or ()))
    for label in sorted(set().union(*histograms.values())):
        names.setdefault(label, f'class {label}')
    if not names:
        return
    if len(names) <= CLASSES_IN_TABLE:
        rows = [
            (label, name, *(histogram.get(label, 0) for histogram in histograms.values()))
            for label, name in names.items()
        ]
        # A class name may look like a number.
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
    """Print the first problems of each kind."""
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
    """Write all results as JSON.

    Raises:
        UserError: the file cannot be written.
    """
    content = {
        'classes': classes,
        'files': [
            {
                'path': str(file.path),
                'bytes': file.size,
                'records': len(file.records),
                'index_lines': None if file.index is None else len(file.index.offsets),
                'exif_orientation': dict(zip(('tagged', 'turned'), file.num_oriented)),
                'histogram': file.histogram(),
                'problems': [problem._asdict() for problem in file.problems],
            }
            for file in checked
        ],
    }
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(content, indent=1) + '\n'))


def check(args):
    """Check the data set, print and write the results, repair it if requested, and return the exit code."""
    paths = find_record_files(args.path)
    folder = paths[0].parent
    check_options(args, folder)
    names = read_class_names(folder)
    classes = names and append_words(names, read_imagenet_words())
    checked = [CheckedFile(path, classes, read_rows(path, args.threads)) for path in paths]
    problems = [problem for file in checked for problem in file.problems]
    if args.output:
        write_output(args.output, checked, names)
    print_files(checked)
    print_histogram(checked, classes)
    print_problems(problems)
    verdict = f'problems found: {len(problems)}' if problems else 'no problems found'
    print(f'{args.path}: {verdict}; records read: {sum(len(file.records) for file in checked)}')
    if args.repair and all(problem.kind == 'empty class' for problem in problems):
        print(f'{args.repair}: not written, because a copy would fix nothing')
    elif args.repair:
        repair(checked, classes, args.repair)
    return 1 if problems else 0


def main():
    parser = ArgumentParser(description=__doc__, epilog=DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', type=Path, help='the folder of the data set, or a single .rec file')
    parser.add_argument('--repair', type=Path, metavar='NEW_DIR', help='copy the intact records to this new folder')
    parser.add_argument('--output', type=Path, metavar='FILE.json', help='write all problems and counts to this file')
    parser.add_argument(
        '--threads', type=int, default=available_cores(), help='decoding threads (default: the number of cores)'
    )
    args = parser.parse_args()
    if args.repair or args.output:
        continue_without_output()
    # File names may not be valid text.
    sys.stdout.reconfigure(errors='backslashreplace')
    # This program already decodes in several threads.
    cv2.setNumThreads(0)
    with one_line_errors():
        sys.exit(check(args))


if __name__ == '__main__':
    run_program(main)
