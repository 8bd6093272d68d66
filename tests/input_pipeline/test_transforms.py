"""transforms.py and decoding.py: single images."""

from contextlib import nullcontext

import cv2
import numpy as np
import pytest

from helpers.loaders import load, make_args, read, write_records
from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.input_pipeline.transforms import EvaluationOptions, evaluation_transform, load_image


def test_single_image_is_read_as_validation_reads_it(tmp_path):
    random = np.random.RandomState(0)
    photograph = cv2.resize(random.randint(0, 256, (20, 30, 3), dtype=np.uint8), (90, 60))
    cv2.imwrite(str(tmp_path / 'a.png'), photograph)
    args = make_args(mode=Mode.VAL, data_val=write_records(tmp_path, [photograph], split='val'), data_val_resize=40)
    (image,), _ = read(load(args)[1])
    np.testing.assert_array_equal(load_image(tmp_path / 'a.png', args), image)


def test_every_value_is_normalized_by_its_channel():
    image = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16).T ** power for power in (1, 2, 3)], axis=2)
    means, stds = (123.68, 116.28, 103.53), (58.395, 57.12, 57.375)
    batch = np.full((2, 3, 16, 16), np.nan, np.float32)
    options = EvaluationOptions((3, 16, 16), 16, means, stds, 'linear')
    evaluation_transform(np.ascontiguousarray(image), options, out=batch[1])
    # Decoded images are BGR.
    expected = (image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) - _per_channel(means)) / _per_channel(stds)
    np.testing.assert_array_equal(batch[1], expected)
    np.testing.assert_array_equal(evaluation_transform(image, options), expected)
    assert np.isnan(batch[0]).all()


def _per_channel(values):
    return np.array(values, np.float32)[:, np.newaxis, np.newaxis]


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'it does not decode'),
        (b'this is no image', 'it does not decode'),
        (cv2.imencode('.jpg', np.zeros((8, 8, 3)))[1].tobytes()[:-2], 'it is a JPEG that is cut short'),
        (
            b'P6 50000 50000 255 ',
            'it has 50000 x 50000 pixels, more than 200000000 in all; --max-pixels sets the limit',
        ),
    ],
)
def test_image_that_is_not_used(tmp_path, content, reason):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        load_image(path, make_args())
    assert str(raised.value) == f'--data-pred {path}: not an image that can be used: {reason}'


@pytest.mark.parametrize(('limit', 'is_decoded'), [(90 * 60, True), (90 * 60 - 1, False)])
def test_max_pixels(tmp_path, limit, is_decoded):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((60, 90, 3)))
    with nullcontext() if is_decoded else pytest.raises(UserError, match=f'90 x 60 pixels, more than {limit}'):
        load_image(tmp_path / 'a.png', make_args(), limit)
