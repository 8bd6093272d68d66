"""auto_augment.py: what each operation does to an image, and how strong it is."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from imagenet.common.errors import UserError
from imagenet.input_pipeline.auto_augment import OPERATIONS, AutoAugmentOptions, augment, rand_augmentations
from imagenet.runtime.dali_library import load_dali

SIDE = 112
COPIES = 32


@pytest.fixture(scope='module', autouse=True)
def dali():
    load_dali('dali-cpu', 'cpu')


def run(change, image):
    """Return what DALI's pipeline makes of copies of an image, by a function of images that may use `if`."""
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=COPIES, num_threads=1, device_id=None, seed=1, enable_conditionals=True)
    def define():
        return change(fn.external_source(source=lambda: [image] * COPIES, batch=True, layout='HWC'))

    pipeline = define()
    pipeline.build()
    (images,) = pipeline.run()
    return images.as_array()


def apply(name, magnitude, image):
    """Return the results of one operation of RandAugment: one image, or two if its argument may be negated."""
    from nvidia.dali.auto_aug.rand_augment import apply_rand_augment

    operation = dict(zip(OPERATIONS, rand_augmentations(magnitude, *image.shape[:2])))[name]
    results = run(lambda images: apply_rand_augment([operation], images, 1, m=0, num_magnitude_bins=1), image)
    distinct = {result.tobytes(): result for result in results}
    assert len(distinct) == (2 if OPERATIONS[name].is_signed else 1)
    return list(distinct.values())


@pytest.fixture
def photograph():
    """A smooth image with all values from 10 to 240."""
    across, down = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    image = np.stack([across, down, (across + down) / 2], axis=-1) * 230 + 10
    return image.astype(np.uint8)


@pytest.mark.parametrize(
    ('magnitude', 'expected'),
    [
        (5, {'rotate': 15, 'posterize': 2, 'solarize': 128, 'solarize_add': 55, 'shear_x': 0.15, 'shear_y': 0.15,
             'translate_x_no_shape': 50, 'translate_y_no_shape': 50, 'color': 1, 'contrast': 1, 'brightness': 1,
             'sharpness': 1}),
        (9, {'rotate': 27, 'posterize': 3, 'solarize': 230, 'solarize_add': 99, 'shear_x': 0.27, 'shear_y': 0.27,
             'translate_x_no_shape': 90, 'translate_y_no_shape': 90, 'color': 1.72, 'contrast': 1.72,
             'brightness': 1.72, 'sharpness': 1.72}),
        (17, {'rotate': 51, 'posterize': 6, 'solarize': 435, 'solarize_add': 127, 'shear_x': 0.51, 'shear_y': 0.51,
              'translate_x_no_shape': 170, 'translate_y_no_shape': 170, 'color': 3.16, 'contrast': 3.16,
              'brightness': 3.16, 'sharpness': 3.16}),
    ],
)  # fmt: skip
def test_arguments_of_randaugment(magnitude, expected):
    found = {name: operation.strength(magnitude / 10) for name, operation in OPERATIONS.items() if operation.strength}
    assert found == pytest.approx(expected)
    assert set(OPERATIONS) - set(found) == {'auto_contrast', 'equalize', 'invert'}


# The policy v0 of TensorFlow and timm, in their notation: operation, probability, level.
AUTO_AUGMENT = """
    Equalize .8 1 ShearY .8 4, Color .4 9 Equalize .6 3, Color .4 1 Rotate .6 8, Solarize .8 3 Equalize .4 7,
    Solarize .4 2 Solarize .6 2, Color .2 0 Equalize .8 8, Equalize .4 8 SolarizeAdd .8 3, ShearX .2 9 Rotate .6 8,
    Color .6 1 Equalize 1 2, Invert .4 9 Rotate .6 0, Equalize 1 9 ShearY .6 3, Color .4 7 Equalize .6 0,
    Posterize .4 6 AutoContrast .4 7, Solarize .6 8 Color .6 9, Solarize .2 4 Rotate .8 9, Rotate 1 7 TranslateY .8 9,
    Solarize .8 4, ShearY .8 0 Color .6 4, Color 1 0 Rotate .6 2, Equalize .8 4, Equalize 1 4 AutoContrast .6 2,
    ShearY .4 7 SolarizeAdd .6 7, Posterize .8 2 Solarize .6 10, Solarize .6 8 Equalize .6 1, Color .8 6 Rotate .4 5
"""
WITHOUT_LEVELS = ('Equalize', 'Invert', 'AutoContrast')


def test_policy_of_autoaugment():
    """DALI's policy is the published one, and its levels mean what they mean there."""
    from nvidia.dali.auto_aug.auto_augment import get_image_net_policy

    policy = get_image_net_policy(max_translate_abs=250)
    expected = []
    for pair in AUTO_AUGMENT.split(','):
        words = iter(pair.split())
        parts = [(name, float(p), int(level)) for name, p, level in zip(words, words, words)]
        expected.append([(name, p, None if name in WITHOUT_LEVELS else level) for name, p, level in parts])
    found = [
        [(operation.name.replace('_', '').lower(), p, level) for operation, p, level in pair]
        for pair in policy.sub_policies
    ]
    assert found == [[(name.lower(), p, level) for name, p, level in pair] for pair in expected]
    at_five = {
        operation.name: np.linspace(*operation.mag_range, policy.num_magnitude_bins)[5]
        for operation in policy.augmentations.values()
        if operation.mag_range is not None
    }
    colors = {'color': 1, 'posterize': 2, 'solarize': 128, 'solarize_add': 55}
    assert at_five == pytest.approx({'shear_x': 0.15, 'shear_y': 0.15, 'rotate': 15, 'translate_y': 125, **colors})


def close(image, expected, tolerance=1.01):
    return np.abs(image.astype(float) - np.asarray(expected, dtype=float)).max() <= tolerance


@pytest.mark.parametrize('magnitude', [0, 2, 9, 15, 28])
@pytest.mark.parametrize('name', ['color', 'contrast', 'brightness', 'solarize', 'posterize', 'solarize_add'])
def test_operations_on_values(photograph, name, magnitude):
    """Up to rounding, colors are those of Pillow, which TensorFlow and timm follow as well."""
    strength = magnitude / 10
    image, factor = Image.fromarray(photograph), 0.1 + 1.8 * strength
    expected = {
        'color': lambda: ImageEnhance.Color(image).enhance(factor),
        'contrast': lambda: ImageEnhance.Contrast(image).enhance(factor),
        'brightness': lambda: ImageEnhance.Brightness(image).enhance(factor),
        'solarize': lambda: ImageOps.solarize(image, int(256 * strength)),
        'posterize': lambda: ImageOps.posterize(image, min(8, max(1, int(4 * strength)))),
        'solarize_add': lambda: np.where(
            photograph < 128, photograph + min(127, int(110 * strength)), photograph
        ),
    }[name]()  # fmt: skip
    (found,) = apply(name, magnitude, photograph)
    # Pillow rounds the gray value that it blends with, and the factor multiplies the error.
    assert close(found, expected, tolerance=2.01 + 2 * factor if name in ('color', 'contrast') else 1.01)


@pytest.mark.parametrize('name', ['auto_contrast', 'invert', 'equalize'])
def test_operations_without_magnitude(photograph, name):
    image = Image.fromarray(photograph)
    expected = {'auto_contrast': ImageOps.autocontrast, 'invert': ImageOps.invert, 'equalize': ImageOps.equalize}
    (found,) = apply(name, 10, photograph)
    # OpenCV's formula for equalize, which DALI follows, is another one than Pillow's.
    assert close(found, expected[name](image), tolerance=4 if name == 'equalize' else 1.01)


@pytest.mark.parametrize('magnitude', [4, 10, 15])
def test_translations_are_relative_to_the_image(magnitude):
    """At 224 pixels, a magnitude of 10 is 100 pixels."""
    for side in (56, 112):
        image = np.full((side, side, 3), 200, dtype=np.uint8)
        for name, axis in (('translate_x_no_shape', 0), ('translate_y_no_shape', 1)):
            moved = [(result == 128).all(axis=(axis, 2)) for result in apply(name, magnitude, image)]
            expected = 10 * magnitude * side / 224
            assert [is_gray.sum() for is_gray in moved] == [pytest.approx(expected, abs=1)] * 2
            assert {is_gray[0] for is_gray in moved} == {True, False}


@pytest.mark.parametrize('magnitude', [5, 10, 15])
def test_rotation_and_shear(magnitude):
    """A line through the center is turned by the angle, or leans by the share of the shear."""
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    image[:, SIDE // 2 - 2 : SIDE // 2 + 2] = 255
    for name, expected in (('rotate', np.tan(np.radians(3 * magnitude))), ('shear_x', 0.03 * magnitude)):
        slopes = []
        for result in apply(name, magnitude, image):
            rows = np.arange(SIDE // 2 - 20, SIDE // 2 + 20)
            weights = np.where(result[rows, :, 0] > 128, result[rows, :, 0], 0).astype(float)
            columns = (weights * np.arange(SIDE)).sum(axis=1) / weights.sum(axis=1)
            slopes.append(np.polyfit(rows, columns, 1)[0])
        assert sorted(slopes) == pytest.approx([-expected, expected], abs=0.02)


def options(policy, layers=2, magnitude=10):
    return SimpleNamespace(auto_augment=policy, randaugment_layers=layers, randaugment_magnitude=magnitude)


@pytest.mark.parametrize('policy', ['autoaugment', 'randaugment', 'trivialaugment'])
def test_images_get_different_operations(photograph, policy):
    results = run(lambda images: augment(images, options(policy), SIDE, SIDE), photograph)
    assert results.shape == (COPIES, SIDE, SIDE, 3)
    assert len({result.tobytes() for result in results}) > COPIES // 3


@pytest.mark.parametrize('layers', [1, 3])
def test_layers(layers, photograph, monkeypatch):
    """With one operation that is always the same, the number of times that it is applied shows."""
    for name in set(OPERATIONS) - {'translate_x_no_shape'}:
        monkeypatch.delitem(OPERATIONS, name)
    image = np.full_like(photograph, 200)
    results = run(lambda images: augment(images, options('randaugment', layers, 4), SIDE, SIDE), image)
    uncovered = {int((result == 128).all(axis=(0, 2)).sum()) for result in results}
    # Each time 20 pixels to the left or right. After two turns, both sides can be gray.
    assert uncovered == ({20} if layers == 1 else {20, 40, 60})


@pytest.mark.parametrize(
    ('layers', 'magnitude', 'message'),
    [
        (3, 10, '--randaugment-layers 3: needs --auto-augment randaugment'),
        (2, 9, '--randaugment-magnitude 9: needs --auto-augment randaugment'),
    ],
)
def test_options_of_another_policy(layers, magnitude, message):
    AutoAugmentOptions('randaugment', layers, magnitude)
    with pytest.raises(UserError, match=message):
        AutoAugmentOptions('autoaugment', layers, magnitude)
