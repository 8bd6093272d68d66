"""The augmentation options of the backend `mxnet`: each has the effect that its name promises, and no other."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.loaders import load, make_args, raw_pixels, read, without_augmentation, write_records
from imagenet.common.errors import UserError
from imagenet.common.modes import Mode

SIZE = 64


@pytest.fixture
def args(tmp_path):
    """Sixty copies of one image, a gray, a red and a bright square on blue, read without augmentation."""
    image = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
    image[:] = (150, 90, 60)
    image[8:24, 8:24] = (100, 100, 100)
    image[8:24, 40:56] = (40, 40, 160)
    image[40:56, 20:44] = (200, 190, 210)
    path = write_records(tmp_path, [image] * 60)
    args = make_args(mode=Mode.TRAIN, data_train=path, num_examples=60, batch_size=12, image_shape=(3, SIZE, SIZE))
    return raw_pixels(without_augmentation(args))


def images_with(args, **changes):
    """Return the images read with these options, `(60, 64, 64, 3)` in the order red, green, blue."""
    for name, value in changes.items():
        setattr(args, name, value)
    return read(load(args)[0])[0].transpose(0, 2, 3, 1)


def in_hls(images):
    """Return hue (0 to 180), lightness and saturation (0 to 255)."""
    pixels = np.clip(images, 0, 255).astype(np.uint8).reshape(-1, SIZE, 3)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2HLS).reshape(images.shape).astype(float)


def spread(values):
    """Return by how much values differ between images, at the pixel where they differ most."""
    return np.ptp(values, axis=0).max()


def test_nothing_changes_unasked(args):
    images = images_with(args)
    assert spread(images) == 0
    # Red, green and blue of the background.
    assert images[0, 0, 0].tolist() == [60, 90, 150]


def test_hue(args):
    hue = in_hls(images_with(args, max_random_h=20))[:, 0, 0]
    plain = in_hls(images_with(args, max_random_h=0))[0, 0, 0]
    assert spread(hue[:, 0]) > 20
    assert np.abs(hue[:, 0] - plain[0]).max() <= 21
    np.testing.assert_allclose(hue[:, 1], plain[1], atol=2)


def test_saturation_of_hls(args):
    changed = in_hls(images_with(args, max_random_s=40))[:, 0, 0]
    plain = in_hls(images_with(args, max_random_s=0))[0, 0, 0]
    assert spread(changed[:, 2]) > 30
    assert np.abs(changed[:, 2] - plain[2]).max() <= 43
    np.testing.assert_allclose(changed[:, 0], plain[0], atol=2)


def test_lightness(args):
    changed = in_hls(images_with(args, max_random_l=40))[:, 0, 0]
    plain = in_hls(images_with(args, max_random_l=0))[0, 0, 0]
    assert spread(changed[:, 1]) > 30
    assert np.abs(changed[:, 1] - plain[1]).max() <= 42


def test_brightness_scales_all_channels_alike(args):
    ratios = images_with(args, brightness=0.4)[:, 0, 0] / [60, 90, 150]
    assert 0.3 < spread(ratios[:, 0]) <= 0.81
    np.testing.assert_allclose(ratios[:, 0], ratios[:, 2], atol=0.05)


def test_contrast_moves_pixels_from_their_mean(args):
    images = images_with(args, contrast=0.5)
    contrasts = images.std(axis=(1, 2, 3))
    assert np.ptp(contrasts) > 0.3 * contrasts.mean()


def test_saturation_leaves_grey_grey(args):
    images = images_with(args, saturation=0.5)
    assert spread(images[:, 0, 0]) > 20
    np.testing.assert_allclose(images[:, 12, 12], 100, atol=1)


def test_pca_noise_shifts_all_pixels_alike(args):
    images = images_with(args, pca_noise=0.1)
    shifts = images - images_with(args, pca_noise=0)
    assert spread(shifts) > 1
    np.testing.assert_allclose(shifts[:, 0, 0], shifts[:, 20, 20], atol=1)


def test_rotation(args):
    images = images_with(args, max_random_rotate_angle=30)
    # Rotation about the image's center moves other colors into a square's corners.
    assert spread(images) > 50
    unturned = images_with(args, max_random_rotate_angle=0)
    assert np.abs(images - unturned)[:, 4:-4, 4:-4].mean() > 5


def test_shear(args):
    assert spread(images_with(args, max_random_shear_ratio=0.3)) > 50


def extents(images):
    """Return the width and height of the bright square in each image."""
    bright = images[..., 1] > 140
    return np.stack([bright.any(axis=axis).sum(axis=1) for axis in (1, 2)], axis=1)


def test_scale(args):
    """The bright square of 24 x 16 pixels grows."""
    args.random_resized_crop = 0
    plain = extents(images_with(args))
    assert (plain == [24, 16]).all()
    grown = extents(images_with(args, min_random_scale=1.2, max_random_scale=1.5))
    assert grown[:, 0].min() >= 27
    assert grown[:, 0].max() <= 38
    assert spread(grown) >= 5


def test_random_crop(args, tmp_path):
    """The image's colors are its coordinates, so they show that crops are taken from the center, or from anywhere."""
    across, down = np.meshgrid(np.arange(100, dtype=np.uint8), np.arange(100, dtype=np.uint8))
    args.data_train = write_records(tmp_path, [np.stack([np.zeros_like(down), down, across], axis=-1)] * 60)
    args.random_resized_crop = 0
    centre = images_with(args)[:, 0, 0, :2]
    assert (centre == 18).all()
    anywhere = images_with(args, random_crop=1)[:, 0, 0, :2]
    assert anywhere.min() >= 0
    assert anywhere.max() <= 36
    assert (np.ptp(anywhere, axis=0) > 25).all()


def test_crop_sizes(args, tmp_path):
    """The range of colors in a crop is the length of its side."""
    across, down = np.meshgrid(np.arange(100, dtype=np.uint8), np.arange(100, dtype=np.uint8))
    args.data_train = write_records(tmp_path, [np.stack([np.zeros_like(down), down, across], axis=-1)] * 60)
    images = images_with(args, random_resized_crop=0, random_crop=1, min_crop_size=70, max_crop_size=90)
    sides = np.ptp(images[..., :2], axis=(1, 2))
    assert 66 <= sides.min() < 75
    assert 85 < sides.max() <= 90


def test_image_smaller_than_the_crop(args):
    args.random_resized_crop = 0
    with pytest.raises(UserError, match='--max-crop-size 90: an image of .* is smaller'):
        images_with(args, min_crop_size=70, max_crop_size=90)


def test_memory_does_not_grow_with_the_epochs(tmp_path):
    """MXNet never frees the batches that still wait in a reader when it ends. Here, each has 19 MiB."""
    image = np.full((224, 224, 3), 90, dtype=np.uint8)
    path = write_records(tmp_path, [image] * 70, extension='.jpg')
    args = make_args(mode=Mode.TRAIN, data_train=path, num_examples=70, batch_size=32, image_shape=(3, 224, 224))
    args.data_val_resize = 224
    train, _ = load(args)
    resident = []
    for epoch in range(12):
        read(train, epoch)
        resident.append(int(Path('/proc/self/statm').read_text().split()[1]) * 4096 / 2**20)
    assert resident[-1] - resident[3] < 4 * 19
