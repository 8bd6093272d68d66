"""Automatic augmentation, computed by DALI: AutoAugment, RandAugment and TrivialAugment.

Images are `(H, W, 3)` with values from 0 to 255, already of the network's size. What an operation uncovers becomes
gray. Translations are published in pixels of an image of 224; here they are the same share of any image, so that an
augmentation is as strong for large images as for small ones.
"""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.options import integer, number

GRAY = 128
PUBLISHED_SIDE = 224
# Largest translations in pixels, as published. TensorFlow: models/vision/image_classification/augment.py.
AUTO_TRANSLATION, RANDOM_TRANSLATION = 250, 100
# TrivialAugment, Müller and Hutter (arXiv:2103.10158), table 1: "wide".
TRIVIAL_TRANSLATION = 32
DEFAULT_LAYERS, DEFAULT_MAGNITUDE = 2, 10
# A magnitude of 10 is full strength.
FULL = 10
MOST_MAGNITUDE = 30
# DALI adds it to pixels below 128 without checking for an overflow of uint8.
MOST_ADDED = 127

# An operation of RandAugment.
# strength: a function of magnitude / 10 that returns the argument of DALI's augmentation; None if it has none.
# is_signed: whether the argument is negated for half of the images.
# parameter: the name of DALI's function from this argument to the operator's parameter; None if they are the same.
Operation = namedtuple('Operation', 'strength is_signed parameter', defaults=(None, False, None))


def _factor(strength):
    """Return the factor of color, contrast, brightness and sharpness, which 1 leaves as they are."""
    return 0.1 + 1.8 * strength


# By name in DALI: the operations of TensorFlow's RandAugment, with its formulas, except Cutout; --random-erasing is
# like it. Some grow weaker as the magnitude grows.
OPERATIONS = {
    'auto_contrast': Operation(),
    'equalize': Operation(),
    'invert': Operation(),
    # Degrees.
    'rotate': Operation(lambda strength: 30 * strength, is_signed=True),
    # Bits that stay; DALI keeps at least one.
    'posterize': Operation(lambda strength: int(4 * strength), parameter='poster_mask_uint8'),
    # Pixels from here on are inverted.
    'solarize': Operation(lambda strength: int(256 * strength)),
    # Added to pixels below 128.
    'solarize_add': Operation(lambda strength: min(MOST_ADDED, int(110 * strength)), parameter='solarize_add_shift'),
    'color': Operation(_factor),
    'contrast': Operation(_factor),
    'brightness': Operation(_factor),
    'sharpness': Operation(_factor, parameter='sharpness_kernel_shifted'),
    # Pixels per pixel.
    'shear_x': Operation(lambda strength: 0.3 * strength, is_signed=True, parameter='warp_x_param'),
    'shear_y': Operation(lambda strength: 0.3 * strength, is_signed=True, parameter='warp_y_param'),
    # Pixels of an image of 224.
    'translate_x_no_shape': Operation(
        lambda strength: RANDOM_TRANSLATION * strength, is_signed=True, parameter='warp_x_param'
    ),
    'translate_y_no_shape': Operation(
        lambda strength: RANDOM_TRANSLATION * strength, is_signed=True, parameter='warp_y_param'
    ),
}


def add_auto_augment_args(parser):
    group = parser.add_argument_group(
        'Automatic augmentation', 'Operations drawn for each training image; with --data-backend dali-gpu and dali-cpu'
    )
    group.add_argument(
        '--auto-augment',
        choices=tuple(POLICIES),
        default='none',
        help="autoaugment: one of the 25 pairs of operations of AutoAugment's policy for ImageNet (v0); randaugment: "
        'several operations, all with the same magnitude; trivialaugment: one operation with any magnitude '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--randaugment-layers',
        type=integer(1, 10),
        default=DEFAULT_LAYERS,
        help='operations per image (default: %(default)s)',
    )
    group.add_argument(
        '--randaugment-magnitude',
        type=number(at_least=0, at_most=MOST_MAGNITUDE),
        default=DEFAULT_MAGNITUDE,
        help='their magnitude, on the scale of TensorFlow and timm: 10 shears by 0.3 and rotates by 30 degrees, and '
        'larger ones are possible (default: %(default)s)',
    )
    return group


@dataclass(frozen=True)
class AutoAugmentOptions:
    """The options of the same names.

    Raises:
        UserError: they contradict each other.
    """

    auto_augment: str
    randaugment_layers: int
    randaugment_magnitude: float

    def __post_init__(self):
        if self.auto_augment == 'randaugment':
            return
        if self.randaugment_layers != DEFAULT_LAYERS:
            raise UserError(f'--randaugment-layers {self.randaugment_layers}: needs --auto-augment randaugment')
        if self.randaugment_magnitude != DEFAULT_MAGNITUDE:
            raise UserError(f'--randaugment-magnitude {self.randaugment_magnitude:g}: needs --auto-augment randaugment')


def check_unused(options, backend):
    """Raise `UserError` if `AutoAugmentOptions` are used with a backend that cannot do that."""
    if options.auto_augment != 'none':
        raise UserError(
            f'--auto-augment {options.auto_augment}: --data-backend {backend} cannot do that; '
            'use --data-backend dali-cpu'
        )


def needs_conditionals(options):
    """Return whether DALI's pipeline must support `if`, by which it applies different operations to the images."""
    return options.auto_augment != 'none'


def augment(images, options, height, width):
    """Return augmented images, as part of a DALI pipeline.

    Args:
        images: of this height and width.
        options: `AutoAugmentOptions`.
    """
    return POLICIES[options.auto_augment](images, options, height, width)


def _none(images, options, height, width):
    return images


def _auto_augment(images, options, height, width):
    from nvidia.dali.auto_aug.auto_augment import auto_augment_image_net

    largest = _pixels(AUTO_TRANSLATION, height), _pixels(AUTO_TRANSLATION, width)
    return auto_augment_image_net(images, fill_value=GRAY, max_translate_abs=largest)


def _trivial_augment(images, options, height, width):
    from nvidia.dali.auto_aug.trivial_augment import trivial_augment_wide

    largest = _pixels(TRIVIAL_TRANSLATION, height), _pixels(TRIVIAL_TRANSLATION, width)
    return trivial_augment_wide(images, fill_value=GRAY, max_translate_abs=largest)


def _rand_augment(images, options, height, width):
    from nvidia.dali.auto_aug.rand_augment import apply_rand_augment

    operations = rand_augmentations(options.randaugment_magnitude, height, width)
    # Each operation has one magnitude, number 0 of 1.
    return apply_rand_augment(
        operations, images, options.randaugment_layers, m=0, num_magnitude_bins=1, fill_value=GRAY
    )


POLICIES = {
    'none': _none,
    'autoaugment': _auto_augment,
    'randaugment': _rand_augment,
    'trivialaugment': _trivial_augment,
}


def rand_augmentations(magnitude, height, width):
    """Return DALI's augmentations for images of this size, each with one magnitude: that of `OPERATIONS`."""
    from nvidia.dali.auto_aug import augmentations

    sides = {'translate_x_no_shape': width, 'translate_y_no_shape': height}
    chosen = []
    for name, operation in OPERATIONS.items():
        augmentation = getattr(augmentations, name)
        if operation.strength is not None:
            value = operation.strength(magnitude / FULL)
            if name in sides:
                value = _pixels(value, sides[name])
            parameter = operation.parameter and getattr(augmentations, operation.parameter)
            augmentation = augmentation.augmentation(
                mag_range=np.array([value], dtype=np.float32),
                randomly_negate=operation.is_signed,
                mag_to_param=parameter,
            )
        chosen.append(augmentation)
    return chosen


def _pixels(published, side):
    """Return a published translation as pixels of an image whose side is this long."""
    return published * side / PUBLISHED_SIDE
