"""transforms.py and decoding.py: single images."""

import cv2
import numpy as np
import pytest

from helpers.loaders import load, make_args, read, write_records
from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.datasets.decoding import decode_image, is_cut_short
from imagenet.input_pipeline.transforms import load_image


def test_single_image_is_read_as_validation_reads_it(tmp_path):
    random = np.random.RandomState(0)
    photograph = cv2.resize(random.randint(0, 256, (20, 30, 3), dtype=np.uint8), (90, 60))
    cv2.imwrite(str(tmp_path / 'a.png'), photograph)
    args = make_args(mode=Mode.VAL, data_val=write_records(tmp_path, [photograph], split='val'), data_val_resize=40)
    (image,), _ = read(load(args)[1])
    np.testing.assert_array_equal(load_image(tmp_path / 'a.png', args)[0], image)


def test_jpeg_that_is_cut_short():
    random = np.random.RandomState(0)
    encoded = cv2.imencode('.jpg', random.randint(0, 256, (64, 64, 3), dtype=np.uint8))[1].tobytes()
    assert not is_cut_short(encoded)
    for part in (encoded[:-2], encoded[: len(encoded) // 2]):
        assert is_cut_short(part)
        assert decode_image(part).shape == (64, 64, 3)
    assert not is_cut_short(encoded[:100])
    assert decode_image(encoded[:100]) is None


@pytest.mark.parametrize('content', [b'', b'this is no image'])
def test_image_that_does_not_decode(tmp_path, content):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'a\.jpg: not an image that OpenCV can decode'):
        load_image(path, make_args())
