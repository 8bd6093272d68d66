#!/usr/bin/env python3
"""Writes a small data set of parts of photographs, for benchmarks: which of 16 photographs is a part from?

    benchmarks/photograph_patches.py patches
    scripts/prepare_dataset.py patches data

The photographs are those in scikit-image's wheel, in gray. Training images are squares of 64 to 192 pixels from their
left 60 %, validation images from the rest, all of them stored with 128 pixels: 3200 and 800.
"""

import argparse
import importlib.util
from pathlib import Path

import cv2
import numpy as np

NAMES = 'astronaut brick camera cell chelsea coffee coins grass gravel hubble_deep_field ihc moon motorcycle_left page '
NAMES += 'retina rocket'
PER_CLASS = {'train': 200, 'val': 50}
# Of the width.
PARTS = {'train': (0, 0.6), 'val': (0.6, 1)}
SMALLEST, LARGEST, STORED = 64, 192, 128
SEED = 0


def cut(photograph, split, random):
    """Return a random square of a part of a photograph."""
    begin, end = (round(share * photograph.shape[1]) for share in PARTS[split])
    part = photograph[:, begin:end]
    side = random.randint(SMALLEST, min(LARGEST, *part.shape) + 1)
    top, left = (random.randint(length - side + 1) for length in part.shape)
    square = part[top : top + side, left : left + side]
    return cv2.resize(square, (STORED, STORED), interpolation=cv2.INTER_AREA)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='the tree to write')
    out, random = parser.parse_args().out, np.random.RandomState(SEED)
    data = Path(importlib.util.find_spec('skimage').submodule_search_locations[0]) / 'data'
    for name in NAMES.split():
        (path,) = data.glob(f'{name}.*')
        photograph = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for split, count in PER_CLASS.items():
            folder = out / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                cv2.imwrite(str(folder / f'{number:03}.png'), cut(photograph, split, random))


if __name__ == '__main__':
    main()
