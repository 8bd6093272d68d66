"""Image sizes that grow during training, in stages: small images first, which are quick to learn from.

Howard's "progressive resizing" in fast.ai's entry to DAWNBench; Tan and Le, "EfficientNetV2" (arXiv:2104.00298),
section 4, also strengthens the augmentation with the size.
"""

from dataclasses import dataclass

from imagenet.common.errors import UserError
from imagenet.common.options import LARGEST_SIDE, MOST_IMAGES, comma_separated, integer, number, pair

MOST_STAGES, MOST_MAGNITUDE = 100, 30


def add_resolution_args(parser):
    group = parser.add_argument_group('Image sizes', 'Training images that grow in stages')
    sizes = group.add_mutually_exclusive_group()
    sizes.add_argument(
        '--image-sizes',
        type=comma_separated(pair(integer(at_least=0), integer(1, LARGEST_SIDE))),
        metavar='EPOCH:SIDE,…',
        help='the epoch in which each stage begins, from 0, and the side of its square training images, such as '
        '0:128,13:224,25:288 (default: one stage with --image-shape)',
    )
    sizes.add_argument(
        '--stages',
        type=integer(1, MOST_STAGES),
        metavar='N',
        help='divide the run into N stages of equal length, with sizes from above --base-image-size to --image-shape',
    )
    group.add_argument(
        '--base-image-size',
        type=integer(1, LARGEST_SIDE),
        metavar='SIDE',
        help='with --stages: the size from which they grow; that of stage s is base + (last - base) * s / N '
        '(default: 128)',
    )
    group.add_argument(
        '--stage-batch-sizes',
        type=comma_separated(integer(1, MOST_IMAGES)),
        metavar='B,…',
        help='images in a step of each stage, over all processes and devices; the learning rate is scaled with them '
        '(default: --batch-size)',
    )
    group.add_argument(
        '--stage-magnitudes',
        type=comma_separated(number(at_least=0, at_most=MOST_MAGNITUDE)),
        metavar='M,…',
        help='--randaugment-magnitude of each stage',
    )
    group.add_argument(
        '--val-image-size',
        type=integer(1, LARGEST_SIDE),
        metavar='SIDE',
        help='side of the square validation images, which is also the size of the saved network (default: '
        '--image-shape)',
    )
    return group


@dataclass(frozen=True)
class Stage:
    """A part of a run with its own image size.

    Attributes:
        first_epoch: the epoch in which it begins, from 0.
        image_size: (height, width) of the training images.
        batch_size: images in a step, over all ranks.
        magnitude: strength of RandAugment; None for the run's own.
    """

    first_epoch: int
    image_size: tuple
    batch_size: int
    magnitude: float


@dataclass(frozen=True)
class ResolutionOptions:
    """The options of the same names.

    Raises:
        UserError: they contradict each other.
    """

    image_sizes: tuple
    stages: int
    base_image_size: int
    stage_batch_sizes: tuple
    stage_magnitudes: tuple
    image_shape: tuple
    batch_size: int
    num_epochs: int

    def __post_init__(self):
        if self.base_image_size is not None and self.stages is None:
            raise UserError(f'--base-image-size {self.base_image_size}: needs --stages')
        if self.image_sizes is not None:
            self._check_sizes()
        if (self.stages or 0) > self.num_epochs:
            raise UserError(f'--stages {self.stages}: must be at most --num-epochs {self.num_epochs}')
        num_stages = len(self.image_sizes or ()) or self.stages or 1
        for option in ('stage_batch_sizes', 'stage_magnitudes'):
            values = getattr(self, option)
            if values is not None and len(values) != num_stages:
                name, text = f'--{option.replace("_", "-")}', ','.join(f'{value:g}' for value in values)
                raise UserError(
                    f'{name} {text}: must be one number for each stage of --image-sizes or --stages, '
                    f'of which there are {num_stages}'
                )

    def _check_sizes(self):
        text = ','.join(f'{epoch}:{side}' for epoch, side in self.image_sizes)
        epochs = [epoch for epoch, _ in self.image_sizes]
        if epochs != sorted(set(epochs)) or epochs[0] != 0:
            raise UserError(f'--image-sizes {text}: epochs must be in ascending order, from 0')
        if epochs[-1] >= self.num_epochs:
            raise UserError(f'--image-sizes {text}: a stage begins after --num-epochs {self.num_epochs}')


def get_stages(options):
    """Return the `Stage`s of a run in order; there is at least one."""
    if options.image_sizes is not None:
        beginnings = [(epoch, (side, side)) for epoch, side in options.image_sizes]
    else:
        beginnings = equal_stages(options)
    batch_sizes = options.stage_batch_sizes or [options.batch_size] * len(beginnings)
    magnitudes = options.stage_magnitudes or [None] * len(beginnings)
    return tuple(Stage(*begin, *others) for begin, *others in zip(beginnings, batch_sizes, magnitudes))


DEFAULT_BASE_SIZE = 128


def equal_stages(options):
    """Return (first epoch, size) of stages of equal length; the last one takes the rest of the epochs.

    The sizes are those of NVIDIA's EfficientNetV2 for TensorFlow 2. The first is already larger than the base.
    """
    size, num_stages = tuple(options.image_shape[1:]), options.stages
    if num_stages is None:
        return [(0, size)]
    base, length = options.base_image_size or DEFAULT_BASE_SIZE, options.num_epochs // num_stages
    if base > min(size):
        raise UserError(
            f'--base-image-size {base}: must be at most the sides of --image-shape, {size[0]} and {size[1]}'
        )
    return [
        (stage * length, tuple(base + (side - base) * (stage + 1) // num_stages for side in size))
        for stage in range(num_stages)
    ]


def stage_at(stages, epoch):
    """Return the `Stage` of an epoch."""
    return [stage for stage in stages if stage.first_epoch <= epoch][-1]
