"""interpolation.py: whatever reads images, `--interpolation` gives the pixels of its formula, and of Pillow."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.commands import PROJECT
from helpers.loaders import RECORD_BACKENDS, load, make_args, raw_pixels, read, without_augmentation, write_records
from imagenet.common.modes import Mode
from imagenet.datasets.records import RecordFile, index_path
from imagenet.input_pipeline.interpolation import FILTERS, resized_centre
from imagenet.input_pipeline.transforms import evaluation_images, load_image

# Shorter side and crop.
SIZES = [(56, 48), (48, 48)]
# Of the range, for each value: two readers that differ this much from the formula agree within 2 %.
TOLERANCE = 0.01 * 255
# Enlarged, slightly reduced, reduced by factors up to 40, and narrow.
SHAPES = [(20, 30), (9, 5), (61, 50), (200, 300), (900, 2000), (3, 600), (1200, 4), (48, 64), (1, 1)]
PILLOW_FILTERS = {
    'triangular': Image.Resampling.BILINEAR,
    'cubic': Image.Resampling.BICUBIC,
    'lanczos': Image.Resampling.LANCZOS,
}


def triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def cubic(x):
    """Keys (1981) with a = -0.5, which is the Catmull-Rom spline."""
    x = np.abs(x)
    return np.select([x < 1, x < 2], [1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2], 0)


def lanczos3(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


FORMULAS = {'linear': triangle, 'triangular': triangle, 'cubic': cubic, 'lanczos': lanczos3}


def weights(length, resized, crop, interpolation):
    """Return the share of each pixel along one axis in each pixel of the crop, `(crop, length)`."""
    scale = length / resized
    widened = max(scale, 1) if interpolation != 'linear' else 1
    beyond = int(np.ceil(3 * widened)) + 1
    centers = ((resized - crop) // 2 + np.arange(crop) + 0.5) * scale
    positions = np.arange(-beyond, length + beyond)
    shares = FORMULAS[interpolation]((positions + 0.5 - centers[:, None]) / widened)
    shares /= shares.sum(axis=1, keepdims=True)
    # Beyond the border, the outermost pixel is repeated.
    within = np.zeros((crop, length))
    np.add.at(within, (slice(None), positions.clip(0, length - 1)), shares)
    return within


def by_formula(image, shorter_side, crop, interpolation):
    """Return the center of a resized image, computed with the formulas in double precision."""
    rows, columns = (
        weights(length, shorter_side * length // min(image.shape[:2]), crop, interpolation)
        for length in image.shape[:2]
    )
    return np.einsum('yh,hwc,xw->yxc', rows, image.astype(float), columns, optimize=True).clip(0, 255)


def by_pillow(image, shorter_side, crop, interpolation):
    """Return the center of an image that Pillow has resized completely."""
    height, width = (shorter_side * side // min(image.shape[:2]) for side in image.shape[:2])
    whole = Image.fromarray(image)
    if interpolation == 'linear':
        # `resize` would antialias.
        scales = (image.shape[1] / width, 0, 0, 0, image.shape[0] / height, 0)
        resized = whole.transform((width, height), Image.Transform.AFFINE, scales, Image.Resampling.BILINEAR)
    else:
        resized = whole.resize((width, height), PILLOW_FILTERS[interpolation])
    left, top = (width - crop) // 2, (height - crop) // 2
    return np.asarray(resized.crop((left, top, left + crop, top + crop))).astype(float)


def black_and_white(height, width, seed=0):
    """Return noise, in which filters overshoot most."""
    return 255 * np.random.RandomState(seed).randint(0, 2, (height, width, 3)).astype(np.uint8)


def photograph(height, width, seed=0):
    """Return an image with detail of several sizes, none of it finer than two pixels."""
    random = np.random.RandomState(seed)
    layers = [random.randint(0, 256, (height // size + 2, width // size + 2, 3)) for size in (2, 8, 32)]
    enlarged = [cv2.resize(layer.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC) for layer in layers]
    return np.average(enlarged, axis=0, weights=[1, 2, 4]).round().astype(np.uint8)


def evaluation_args(sizes, interpolation, **changes):
    resize, crop = sizes
    shape = {'image_shape': (3, crop, crop), 'data_val_resize': resize}
    return raw_pixels(make_args(batch_size=4, num_classes=1000, interpolation=interpolation, **shape, **changes))


def validate(backend):
    return lambda path, *how: read(load(evaluation_args(*how, backend=backend, mode=Mode.VAL, data_val=path))[1])[0]


def calibrate(path, *how):
    with RecordFile(path, index_path(path)) as records:
        return np.stack(list(evaluation_images(records, range(len(records)), evaluation_args(*how))))


def predict(path, *how):
    images = []
    with RecordFile(path, index_path(path)) as records:
        for number in range(len(records)):
            path.with_suffix('.png').write_bytes(records.read(number).image)
            images.append(load_image(path.with_suffix('.png'), evaluation_args(*how)))
    return np.stack(images)


# Functions of a record file, sizes and a filter, which return images `(N, 3, H, W)`.
READERS = {'calibrate': calibrate, 'pred': predict, **{backend: validate(backend) for backend in RECORD_BACKENDS}}


def assert_close(found, expected):
    """Compare images `(N, 3, H, W)` with images `(H, W, 3)` in the order blue, green, red."""
    for image, wanted in zip(found, expected):
        assert np.abs(image.transpose(1, 2, 0)[:, :, ::-1] - wanted).max() <= TOLERANCE


@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('interpolation', FILTERS)
@pytest.mark.parametrize('reader', READERS)
def test_same_pixels_as_the_formula(tmp_path, reader, interpolation, sizes):
    images = [black_and_white(*shape, seed) for seed, shape in enumerate(SHAPES)]
    path = write_records(tmp_path, images, split='val')
    assert_close(
        READERS[reader](path, sizes, interpolation), [by_formula(image, *sizes, interpolation) for image in images]
    )


@pytest.mark.parametrize('interpolation', FILTERS)
@pytest.mark.parametrize('reader', READERS)
def test_same_pixels_as_pillow(tmp_path, reader, interpolation):
    """In the interior of photographs. At borders, Pillow gives more weight to the pixels within."""
    sizes = (56, 48)
    images = [photograph(*shape, seed) for seed, shape in enumerate([(40, 30), (200, 300), (900, 700), (60, 500)])]
    path = write_records(tmp_path, images, split='val')
    assert_close(
        READERS[reader](path, sizes, interpolation), [by_pillow(image, *sizes, interpolation) for image in images]
    )


@pytest.mark.parametrize('interpolation', FILTERS)
@pytest.mark.parametrize('fuse_decoder', [0, 1])
def test_training_with_dali(tmp_path, interpolation, fuse_decoder):
    """Without augmentation, the crop is all of a square image."""
    images = [black_and_white(side, side, seed=side) for side in (20, 90, 200, 700)]
    path = write_records(tmp_path, images, labels=range(len(images)))
    args = evaluation_args((48, 48), interpolation, backend='dali-cpu', mode=Mode.TRAIN, data_train=path)
    args.num_examples, args.dali_fuse_decoder = len(images), fuse_decoder
    found, labels = read(load(without_augmentation(args))[0])
    assert_close(found, [by_formula(images[label], 48, 48, interpolation) for label in labels])


def test_training_with_mxnet(tmp_path):
    """It reads the same images whatever the filter."""
    path = write_records(tmp_path, [black_and_white(100, 100, seed) for seed in range(8)])
    args = evaluation_args((48, 48), 'linear', mode=Mode.TRAIN, data_train=path, num_examples=8)
    expected = read(load(without_augmentation(args))[0])[0]
    args.interpolation = 'lanczos'
    np.testing.assert_array_equal(read(load(args)[0])[0], expected)


@pytest.mark.parametrize('interpolation', FILTERS)
def test_strips_of_a_large_image(monkeypatch, interpolation):
    image = black_and_white(300, 400)
    at_once = resized_centre(image, 60, 48, 40, interpolation).astype(int)
    monkeypatch.setattr('imagenet.input_pipeline.interpolation.PIXELS_AT_ONCE', 10_000)
    assert np.abs(resized_centre(image, 60, 48, 40, interpolation) - at_once).max() <= 1


@pytest.mark.parametrize('interpolation', FILTERS)
def test_image_that_is_not_resized(interpolation):
    image = black_and_white(48, 60)
    np.testing.assert_array_equal(resized_centre(image, 48, 32, 40, interpolation), image[8:40, 10:50])


@pytest.mark.parametrize('name', ['checkpoints/manifest', 'checkpoints/network', 'inference/int8'])
def test_files_may_name_every_filter(name):
    schema = (PROJECT / 'imagenet' / f'{name}_schema.json').read_text()
    assert f'"interpolation": {{"enum": {json.dumps(list(FILTERS))}' in schema
