"""A picture of many images, each with a title."""

import math

import cv2

from imagenet.reporting.figures import import_pyplot

COLUMNS = 6
INCHES_PER_IMAGE = 1.7
INCHES_PER_LINE = 0.15
DOTS_PER_INCH = 120
LONGEST_LINE = 22
SIDE = 160


def draw_grid(images, titles):
    """Return a figure of images of about the same shape.

    Args:
        images: arrays `(H, W, 3)` with values from 0 to 255.
        titles: texts of one or several lines.
    """
    rows, lines = math.ceil(len(images) / COLUMNS), 1 + max(title.count('\n') for title in titles)
    height, width = images[0].shape[:2]
    size = COLUMNS * INCHES_PER_IMAGE, rows * (INCHES_PER_IMAGE * height / width + INCHES_PER_LINE * (lines + 1))
    figure, axes = import_pyplot().subplots(rows, COLUMNS, figsize=size, squeeze=False, layout='constrained')
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, image, title in zip(axes.ravel(), images, titles):
        axis.imshow(image, interpolation='nearest')
        axis.set_title('\n'.join(map(_shorten, title.split('\n'))), fontsize=8)
    return figure


def center_square(image):
    """Return the center of an image, `(SIDE, SIDE, 3)`, in the order red, green, blue.

    Args:
        image: a uint8 array `(H, W, 3)` in the order blue, green, red.
    """
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    center = image[top : top + side, left : left + side, ::-1]
    return cv2.resize(center, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _shorten(line):
    # ImageNet's names are a WordNet ID and several synonyms.
    line = line.split(',')[0]
    return line if len(line) <= LONGEST_LINE else f'{line[: LONGEST_LINE - 1]}…'
