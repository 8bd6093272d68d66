"""Learning-rate schedules: pure functions of the epoch, which may be a fraction.

The cosine, with its restarts, is Loshchilov and Hutter, "SGDR" (arXiv:1608.03983), equation 5; the linear warm-up is
Goyal et al., "Accurate, Large Minibatch SGD" (arXiv:1706.02677), section 2.2; the steps are those of He et al., "Deep
Residual Learning" (arXiv:1512.03385), section 3.4.
"""

import math
from dataclasses import dataclass

from imagenet.common.errors import UserError
from imagenet.common.options import LARGEST_RATE, comma_separated, number


def add_schedule_args(parser):
    group = parser.add_argument_group('Learning rate')
    group.add_argument(
        '--lr',
        type=number(at_least=0, at_most=LARGEST_RATE),
        default=0.1,
        help='learning rate after the warm-up (default: %(default)s)',
    )
    group.add_argument(
        '--lr-schedule',
        choices=('multistep', 'cosine'),
        default='cosine',
        help='how the learning rate falls after the warm-up (default: %(default)s)',
    )
    group.add_argument(
        '--lr-steps',
        type=comma_separated(number(at_least=0)),
        default=(),
        help='epochs at which multistep multiplies the rate by --lr-factor, and cosine restarts with its peak '
        'multiplied by it',
    )
    group.add_argument(
        '--lr-factor', type=number(at_least=0, at_most=100), default=0.256, help='(default: %(default)s)'
    )
    group.add_argument(
        '--warmup-epochs',
        type=number(at_least=0),
        default=5,
        help='epochs of linear warm-up from 0 (default: %(default)s)',
    )
    return group


@dataclass(frozen=True)
class ScheduleOptions:
    """The options of the same names.

    Raises:
        UserError: --lr-steps is not in ascending order, or missing although multistep needs it.
    """

    lr: float
    lr_schedule: str
    lr_steps: tuple
    lr_factor: float
    warmup_epochs: float
    num_epochs: int

    def __post_init__(self):
        if sorted(self.lr_steps) != list(self.lr_steps):
            raise UserError(
                f'--lr-steps {",".join(f"{step:g}" for step in self.lr_steps)}: epochs must be in ascending order'
            )
        if self.lr_schedule == 'multistep' and not self.lr_steps:
            raise UserError('--lr-schedule multistep needs its epochs: --lr-steps 30,60,80')
        if self.lr * max(1, self.lr_factor) ** len(self.lr_steps) > LARGEST_RATE:
            raise UserError(f'--lr-factor {self.lr_factor:g}: the learning rate would exceed {LARGEST_RATE:g}')


def cosine(epoch, num_epochs, warmup_epochs, restarts, factor):
    """Return the fraction of the peak rate: 1 at the end of the warm-up, falling to 0 at `num_epochs`.

    Args:
        restarts: epochs at which the cosine starts over, each time from `factor` times the previous peak.
    """
    begin = max((restart for restart in restarts if restart <= epoch), default=warmup_epochs)
    end = min((restart for restart in restarts if restart > epoch), default=num_epochs)
    if epoch >= end:
        return 0.0
    return multistep(epoch, restarts, factor) * 0.5 * (1 + math.cos(math.pi * (epoch - begin) / (end - begin)))


def multistep(epoch, steps, factor):
    """Return the fraction of the peak rate: 1, multiplied by `factor` at each of the epochs in `steps`."""
    return factor ** sum(epoch >= step for step in steps)


def with_warmup(peak, warmup_epochs, decay):
    """Return the rate as a function of the epoch: linear from 0 to `peak`, then `peak` times `decay(epoch)`.

    Args:
        warmup_epochs: length of the linear part; with 0, the rate starts at its peak.
    """

    def learning_rate(epoch):
        if epoch < warmup_epochs:
            return peak * epoch / warmup_epochs
        return peak * decay(epoch)

    return learning_rate


def get_schedule(options):
    """Return the learning rate as a function of the epochs done so far, which may be a fraction."""
    decays = {
        'cosine': lambda epoch: cosine(
            epoch, options.num_epochs, options.warmup_epochs, options.lr_steps, options.lr_factor
        ),
        'multistep': lambda epoch: multistep(epoch, options.lr_steps, options.lr_factor),
    }
    return with_warmup(options.lr, options.warmup_epochs, decays[options.lr_schedule])
