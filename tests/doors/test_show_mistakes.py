"""scripts/show_mistakes.py: the accuracy of each class, and a picture of the mistakes."""

import csv

import cv2
import numpy as np
import pytest

from helpers.commands import assert_user_error, call, succeed

SHOW = ('.venv/bin/python', 'scripts/show_mistakes.py')
HEADER = ('file', 'error', 'class_1', 'probability_1', 'class_2', 'probability_2')


@pytest.fixture
def write(tmp_path):
    """A function that writes images and results; each row is (folder, what the network says, probability)."""

    def write_results(*rows):
        lines = []
        for number, (folder, said, probability) in enumerate(rows):
            path = tmp_path / 'tree' / folder / f'{number}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            color = (255, 0, 0) if number % 2 else (0, 0, 255)
            cv2.imwrite(str(path), np.full((40, 30 + number, 3), color, np.uint8))
            lines.append((path, '', said, probability, 'other', 0))
        with (tmp_path / 'found.csv').open('w', newline='') as file:
            csv.writer(file).writerows([HEADER, *lines])
        return tmp_path / 'found.csv'

    return write_results


def test_mistakes(write, tmp_path):
    results = write(
        ('cat', 'cat', 0.9), ('cat', 'dog', 0.6), ('cat', 'dog', 0.8), ('dog', 'dog', 0.5), ('owl', 'cat', 0.4)
    )
    shown = succeed(*SHOW, results, '-o', tmp_path / 'mistakes.png')
    table = [line.split() for line in shown.splitlines()]
    assert ['owl', '1', '0.000', 'cat', '1'] in table
    assert ['cat', '3', '0.333', 'dog', '2'] in table
    assert ['all', '5', '0.400'] in table
    assert '3 of 3 mistakes' in shown
    picture = cv2.imread(str(tmp_path / 'mistakes.png'))
    # The most certain mistake comes first, in its own colors: red.
    height, width = picture.shape[:2]
    first = picture[int(height * 0.6), int(width / 12)]
    assert first[2] > 200 > 100 > first[0]


def test_no_mistakes(write, tmp_path):
    shown = succeed(*SHOW, write(('cat', 'cat', 0.9)), '-o', tmp_path / 'mistakes.png')
    assert 'no mistakes' in shown
    assert not (tmp_path / 'mistakes.png').exists()


def test_bad_input(write, tmp_path):
    assert_user_error(call(*SHOW, tmp_path / 'none.csv'), 'none.csv: cannot read this file')
    results = write(('folder', 'cat', 0.9))
    assert_user_error(call(*SHOW, results), 'no folder of an image has the name of a class, such as cat')
    (tmp_path / 'other.csv').write_text('a,b\n1,2\n')
    assert_user_error(call(*SHOW, tmp_path / 'other.csv'), 'not the results of --mode pred')
    results = write(('cat', 'cat', 0.9), ('dog', 'cat', 'high'))
    assert_user_error(call(*SHOW, results), "'high' is no probability")
    results = write(('cat', 'cat', 0.9), ('dog', 'cat', 0.5))
    (tmp_path / 'tree' / 'dog' / '1.jpg').write_bytes(b'no image')
    assert_user_error(call(*SHOW, results, '-o', tmp_path / 'mistakes.png'), '1.jpg: cannot read this image')
    assert not (tmp_path / 'mistakes.png').exists()
