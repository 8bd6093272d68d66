"""scripts/show_batch.py: the picture of a training batch."""

import cv2
import numpy as np
import pytest

from helpers.commands import assert_user_error, call_here, load_program, succeed_here
from imagenet.runtime.compat import mx
from imagenet.training.losses import Targets

SHOW = ('.venv/bin/python', 'scripts/show_batch.py')
SMALL_IMAGES = ('--image-shape', '3,32,32', '--data-val-resize', '32')


@pytest.mark.parametrize('backend', ['dali-cpu', 'mxnet', 'synthetic'])
def test_picture(small_data, tmp_path, backend):
    path = tmp_path / 'batch.png'
    options = ['--data-root', small_data, '--data-backend', backend, '--num-images', '8', *SMALL_IMAGES]
    assert f'{path}: 8 images by --data-backend {backend}' in succeed_here(*SHOW, *options, '-o', path)
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 1000
    # Two rows of six: the second row ends in white. The digits have a black background.
    height = picture.shape[0]
    assert picture[height * 3 // 4, -50].tolist() == [255, 255, 255]
    if backend != 'synthetic':
        assert (picture == 0).all(axis=2).mean() > 0.1
    succeed_here(*SHOW, *options, '--epoch', '1', '-o', tmp_path / 'next.png')
    assert np.array_equal(cv2.imread(str(tmp_path / 'next.png')), picture) == (backend == 'synthetic')


def test_mistakes(small_data, tmp_path):
    output = ('-o', tmp_path / 'batch.png')
    assert_user_error(call_here(*SHOW, *output), '--data-train is missing')
    assert_user_error(call_here(*SHOW, '--data-root', tmp_path, *output), 'train.rec', 'No such file')
    assert_user_error(call_here(*SHOW, '--data-root', small_data, '--num-images', '0', *output), '--num-images 0')
    mixing = ('--data-root', small_data, *SMALL_IMAGES, '--num-images', '1', '--cutmix', '1')
    assert_user_error(call_here(*SHOW, *mixing, *output), '--cutmix 1: a batch of one image has no pairs')
    layers = ('--data-root', small_data, *SMALL_IMAGES, '--randaugment-layers', '1')
    assert_user_error(call_here(*SHOW, *layers, *output), '--randaugment-layers 1: needs --auto-augment randaugment')
    nowhere = ('-o', tmp_path / 'none' / 'batch.png')
    assert_user_error(call_here(*SHOW, '--data-root', small_data, *nowhere), 'batch.png', 'cannot write')


def test_mixed_pictures(small_data, tmp_path):
    """Erasing and mixing change the picture, and only mixing changes the titles."""
    pictures = {}
    for options in (
        (),
        ('--random-erasing', '1'),
        ('--mixup', '1'),
        ('--cutmix', '1'),
        ('--mixup', '1', '--cutmix', '1'),
    ):
        path = tmp_path / 'batch.png'
        command = [*SHOW, '--data-root', small_data, '--num-images', '6', *SMALL_IMAGES, *options, '-o', path]
        succeed_here(*command)
        pictures[options] = cv2.imread(str(path))
        succeed_here(*command)
        assert np.array_equal(cv2.imread(str(path)), pictures[options])
    heights = [picture.shape[0] for picture in pictures.values()]
    # A second line.
    assert heights[0] == heights[1] < heights[2] == heights[3] == heights[4]
    plain, erased = (pictures[options] for options in ((), ('--random-erasing', '1')))
    assert not np.array_equal(plain, erased)
    # There is no color in digits, but in noise.
    assert np.ptp(plain, axis=2).max() == 0 < np.ptp(erased, axis=2).max()


def test_titles():
    show = load_program('scripts/show_batch.py')
    names = ['cat', 'dog, hound', 'owl']
    labels, partners, shares = (
        mx.nd.array(values) for values in ([0, 1, 2, 1], [1, 2, 2, 0], [0.704, 0.2, 0.5, 0.999])
    )
    assert show.titles(Targets(labels), names) == ['cat', 'dog, hound', 'owl', 'dog, hound']
    mixed = show.titles(Targets(labels, partners, shares), names)
    assert mixed == ['70 % cat\n30 % dog, hound', '80 % owl\n20 % dog, hound', '100 % owl', '100 % dog, hound']
