#!/usr/bin/env python3
"""Pack any image tree, or ImageNet as TFRecords or as downloaded, into record files.

RAW contains train/<class>/*.jpg and val/<class>/*.jpg, or train-jpeg and val-jpeg. With --val-fraction it contains the
class folders themselves, and their images are split. A class is the folder that contains its images, so a class name
can be a path such as 'animal/cat'.

Or RAW contains TFRecords, train-*-of-* and, without --val-fraction, validation-*-of-*. Labels are 1 to N in
image/class/label, and become 0 to N - 1. Classes are named by image/class/synset, else by image/class/text. Images are
sorted by class and image/filename, so the record files are those of a tree of the same images.

Or RAW contains ImageNet's archives, which are not unpacked: ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and
ILSVRC2012_devkit_t12.tar.gz, which has the classes of the validation images. The record files are those of the tree
train/<WordNet ID>/*.JPEG and val/<WordNet ID>/*.JPEG. With train/<WordNet ID>/*.JPEG, RAW may also contain the
validation images without class folders, val/*.JPEG, and the development kit.

OUT gets {train,val}.{rec,idx,lst} and classes.txt; dataset.json with the number of images and their channels' mean and
standard deviation; and skipped.txt if files were skipped. With --order im2rec, as prepare_imagenet.sh calls it, the
files are those of MXNet's im2rec.py, without dataset.json.

JPEG and PNG files are stored unchanged, other formats as JPEG, and also PNG files with an EXIF orientation, which not
every reader knows. The work is done in .OUT.partial, whose folder `data` becomes OUT when it is complete. An
interrupted run resumes when it is started again, and produces the same files.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('cv2', 'numpy', 'tqdm', 'crc32c', 'scipy')

from argparse import RawDescriptionHelpFormatter

import cv2

from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.options import ArgumentParser, integer, number
from imagenet.common.output import continue_without_output
from imagenet.common.program import run_program
from imagenet.datasets.codec_messages import captured_messages
from imagenet.datasets.conversion import MAX_JPEG_SIDE
from imagenet.datasets.packing import IM2REC_ORDER, prepare
from imagenet.runtime.threads import available_cores, run_on_all_cores


def parse_args():
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('raw', metavar='RAW', type=Path, help='the folder of the images')
    parser.add_argument('out', metavar='OUT', type=Path, help='the folder of the data set, which must not exist yet')
    parser.add_argument(
        '--val-fraction', type=number(above=0, below=1), metavar='X', help='share of each class to use for validation'
    )
    parser.add_argument(
        '--resize',
        type=integer(1, MAX_JPEG_SIDE),
        metavar='N',
        help='shrink images whose shorter side exceeds N pixels to that size, and store them as JPEG',
    )
    parser.add_argument(
        '--quality', type=integer(1, 100), default=95, metavar='Q', help='quality of re-encoded JPEGs (default: 95)'
    )
    parser.add_argument(
        '--seed',
        type=integer(0, 2**32 - 1),
        default=0,
        metavar='S',
        help='seed for the order of the training images and for the split (default: 0)',
    )
    parser.add_argument(
        '--order',
        choices=('seed', IM2REC_ORDER),
        default='seed',
        help='order of the training images: drawn with --seed, or that of im2rec.py (default: seed)',
    )
    parser.add_argument(
        '--threads',
        type=integer(1, 1024),
        default=available_cores(),
        metavar='T',
        help='number of images to process at once (default: the number of cores)',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    continue_without_output()
    # File names may not be valid text.
    sys.stdout.reconfigure(line_buffering=True, errors='backslashreplace')
    run_on_all_cores()
    # This program already processes one image per thread.
    cv2.setNumThreads(1)
    # Damaged files are listed in `skipped.txt`; the messages of the decoding libraries would break the progress bar.
    with captured_messages(), one_line_errors():
        try:
            prepare(args.raw.resolve(), args.out.resolve(), stored_options(args), args.threads)
        except OSError as error:
            raise UserError(f'{error.filename or args.out}: {error.strerror}') from None


def stored_options(args):
    """Return the options that determine the content of the data set."""
    options = {name: getattr(args, name) for name in ('val_fraction', 'resize', 'quality', 'seed')}
    order = {} if args.order == 'seed' else {'order': args.order}
    return {'raw': str(args.raw.resolve()), **options, **order}


if __name__ == '__main__':
    run_program(main)
