"""What happens to training images on the device, whatever backend has read them: erasing, then mixing in pairs."""

from dataclasses import dataclass

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.options import integer, number
from imagenet.runtime.seeds import derive_seed
from imagenet.training.cutmix import CutMix
from imagenet.training.erasing import RandomErasing
from imagenet.training.losses import Targets
from imagenet.training.mixup import Mixup

SWITCH_STREAM = 6
DEFAULT_SWITCH_PROB = 0.5


def add_mixing_args(parser):
    group = parser.add_argument_group('Mixing', 'Augmentation of training images on the device, for every data backend')
    alpha, probability = number(at_least=0, at_most=1000), number(at_least=0, at_most=1)
    group.add_argument(
        '--mixup',
        type=alpha,
        default=0,
        help='mix each training image with another one, with shares from Beta(X, X); 0: no mixup (default: 0)',
    )
    group.add_argument(
        '--cutmix',
        type=alpha,
        default=0,
        help='replace a box of each training image by that of another one; it leaves a share from Beta(X, X), apart '
        'from what lies outside of the image; 0: no CutMix (default: 0)',
    )
    group.add_argument(
        '--mix-switch-prob',
        type=probability,
        default=DEFAULT_SWITCH_PROB,
        help='with --mixup and --cutmix: probability that a batch gets CutMix; otherwise it gets mixup '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--mixup-off-epoch',
        type=integer(at_least=0),
        default=0,
        help='no mixup and no CutMix from this epoch on, counted from 0; 0: in all epochs (default: 0)',
    )
    group.add_argument(
        '--random-erasing',
        type=probability,
        default=0,
        help='probability that a box in a training image is replaced by noise, before images are mixed (default: 0)',
    )
    return group


@dataclass(frozen=True)
class MixingOptions:
    """The options of the same names.

    Raises:
        UserError: they contradict each other.
    """

    mixup: float
    cutmix: float
    mix_switch_prob: float
    mixup_off_epoch: int
    random_erasing: float
    input_layout: str
    seed: int

    def __post_init__(self):
        if self.mix_switch_prob != DEFAULT_SWITCH_PROB and not (self.mixup and self.cutmix):
            raise UserError(f'--mix-switch-prob {self.mix_switch_prob:g}: needs --mixup and --cutmix')
        if self.mixup_off_epoch and not (self.mixup or self.cutmix):
            raise UserError(f'--mixup-off-epoch {self.mixup_off_epoch}: needs --mixup or --cutmix')


def check_pairs(options, batch_size):
    """Raise `UserError` if images should be mixed in pairs, and the batch of a device has only one."""
    for name in ('mixup', 'cutmix'):
        alpha = getattr(options, name)
        if alpha and batch_size == 1:
            raise UserError(f'--{name} {alpha:g}: a batch of one image has no pairs; use at least two per device')


class Mixing:
    """Erases and mixes the images of a batch as `MixingOptions` specify. Without any, it returns them unchanged."""

    def __init__(self, options):
        self._options = options
        self._erase = self._mixup = self._cutmix = None
        if options.random_erasing:
            self._erase = RandomErasing(options.random_erasing, options.input_layout, options.seed)
        if options.mixup:
            self._mixup = Mixup(options.mixup, options.seed)
        if options.cutmix:
            self._cutmix = CutMix(options.cutmix, options.input_layout, options.seed)

    def __call__(self, images, labels, moment):
        """Return the images and their `Targets`.

        Args:
            images: normalized images in the network's input form, on any device.
            labels: their class indices `(N,)`, on the same device.
            moment: epoch, step, rank and number of the device. With the seed, it determines what is drawn.
        """
        if self._erase is not None:
            images = self._erase(images, moment)
        mix = self._choose(moment)
        return (images, Targets(labels)) if mix is None else mix(images, labels, moment)

    def _choose(self, moment):
        """Return what mixes the batch, or None."""
        off_epoch = self._options.mixup_off_epoch
        if off_epoch and moment[0] >= off_epoch:
            return None
        if self._mixup is None or self._cutmix is None:
            return self._mixup or self._cutmix
        random = np.random.RandomState(derive_seed(self._options.seed, SWITCH_STREAM, *moment))
        return self._cutmix if random.uniform() < self._options.mix_switch_prob else self._mixup
