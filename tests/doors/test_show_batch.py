"""scripts/show_batch.py: the picture of a training batch."""

import cv2
import numpy as np
import pytest

from helpers.commands import assert_user_error, call_here, succeed_here

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
    nowhere = ('-o', tmp_path / 'none' / 'batch.png')
    assert_user_error(call_here(*SHOW, '--data-root', small_data, *nowhere), 'batch.png', 'cannot write')
