#!/usr/bin/env python
"""Packs any image tree into record files.

RAW holds train/<class>/*.jpg and val/<class>/*.jpg, or train-jpeg and val-jpeg; with --val-fraction it holds the class
folders themselves, and is split here. A class is the folder that an image lies in, so that 'animal/cat' can be one.
OUT gets {train,val}.{rec,idx,lst} and classes.txt, as prepare_imagenet.sh makes them; dataset.json, which says how many
images there are and what the mean and standard deviation of their channels are; and, where files were of no use,
skipped.txt.

JPEG and PNG files are stored as they are, other formats as JPEG. The work is done in .OUT.partial, whose folder `data`
becomes OUT when all of it is whole. A run that was stopped goes on when it is started again, and gives the same files.
"""

import os
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

import cv2

sys.path.append(str(Path(__file__).resolve().parents[1]))

from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.options import ArgumentParser, integer, number
from imagenet.datasets.conversion import MAX_JPEG_SIDE
from imagenet.datasets.packing import prepare
from imagenet.runtime.threads import available_cores, run_on_all_cores


def silence_codecs():
    """Keeps this program's own lines on stderr, and only these.

    The libraries for JPEG, PNG and so on write to it by themselves about each damaged file, across the progress bar;
    `skipped.txt` has these files.
    """
    sys.stderr = os.fdopen(os.dup(sys.stderr.fileno()), 'w', buffering=1, errors='backslashreplace')
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def parse_args():
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('raw', metavar='RAW', type=Path, help='the image tree')
    parser.add_argument('out', metavar='OUT', type=Path, help='the folder of the data set, which is not there yet')
    parser.add_argument(
        '--val-fraction', type=number(above=0, below=1), metavar='X', help='share of each class that is for validation'
    )
    parser.add_argument(
        '--resize',
        type=integer(1, MAX_JPEG_SIDE),
        metavar='N',
        help='shrinks images whose shorter side has more than N pixels to that, and stores them as JPEG',
    )
    parser.add_argument(
        '--quality', type=integer(1, 100), default=95, metavar='Q', help='of JPEGs made here (default: 95)'
    )
    parser.add_argument(
        '--seed',
        type=integer(0, 2**32 - 1),
        default=0,
        metavar='S',
        help='decides the order of the training images, and the split (default: 0)',
    )
    parser.add_argument(
        '--threads',
        type=integer(1, 1024),
        default=available_cores(),
        metavar='T',
        help='images worked on at once (default: the number of cores)',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    silence_codecs()
    # Names of files may be no text at all.
    sys.stdout.reconfigure(line_buffering=True, errors='backslashreplace')
    run_on_all_cores()
    # Each of our own threads has an image to itself.
    cv2.setNumThreads(1)
    with one_line_errors():
        try:
            raw, out = args.raw.resolve(), args.out.resolve()
            options = {
                'raw': str(raw),
                'val_fraction': args.val_fraction,
                'resize': args.resize,
                'quality': args.quality,
                'seed': args.seed,
            }
            prepare(raw, out, options, args.threads)
        except OSError as error:
            raise UserError(f'{error.filename or args.out}: {error.strerror}') from None


if __name__ == '__main__':
    main()
