"""Small image trees, and the contents of record files."""

import json
import os

import cv2
import numpy as np

from helpers.patience import wait_until
from imagenet.runtime.compat import mx

FILES = ['classes.txt', 'train.idx', 'train.lst', 'train.rec', 'val.idx', 'val.lst', 'val.rec']


def read_records(folder, split):
    """Return (label, encoded image) of every record."""
    reader = mx.recordio.MXIndexedRecordIO(str(folder / f'{split}.idx'), str(folder / f'{split}.rec'), 'r')
    records = [mx.recordio.unpack(reader.read_idx(key)) for key in sorted(reader.keys)]
    return [(int(header.label), image) for header, image in records]


def random_image(height, width, seed=0):
    """Return an image with smooth colors, which survive JPEG compression."""
    colours = np.random.RandomState(seed).randint(0, 256, (3, 3, 3), dtype=np.uint8)
    return cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR)


def write_image(path, height=24, width=32, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), random_image(height, width, seed))
    return path


def write_classes(root, counts):
    """Write a tree with the given number of images per class, all of them different; return its folder."""
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(root / name / f'{index}.jpg', seed=1000 * number + index)
    return root


def link_copies(source, folder, count):
    """Make many hard links to a file, which take no disk space."""
    folder.mkdir(parents=True)
    for index in range(count):
        os.link(source, folder / f'{index:06}.jpg')


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def description(folder):
    return json.loads((folder / 'dataset.json').read_text())


def skipped(folder):
    """Return {path: reason} for the skipped files."""
    return dict(line.split('\t') for line in (folder / 'skipped.txt').read_text().splitlines())


def paths_in_list(folder, split):
    return [line.split('\t')[2] for line in (folder / f'{split}.lst').read_text().splitlines()]


def stored_images(folder, split):
    """Return {path: encoded image} for the images of a split."""
    return dict(zip(paths_in_list(folder, split), (image for _, image in read_records(folder, split))))


def wait_until_packed(process, work, num_done):
    """Wait until the saved state of a packing run includes this many images."""
    state = work / 'state.json'

    def is_reached():
        return state.exists() and sum(json.loads(state.read_text())['done'].values()) >= num_done

    wait_until(is_reached, process)
