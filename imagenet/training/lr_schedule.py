"""Learning-rate schedules: pure functions of the epoch, which may be a fraction.

The cosine, with its restarts, is Loshchilov and Hutter, "SGDR" (arXiv:1608.03983), equation 5; the linear warm-up is
Goyal et al., "Accurate, Large Minibatch SGD" (arXiv:1706.02677), section 2.2; the steps are those of He et al., "Deep
Residual Learning" (arXiv:1512.03385), section 3.4; the exponential is Tan and Le, "EfficientNet" (arXiv:1905.11946),
section 5.2.
"""

import math
from dataclasses import dataclass

from imagenet.common.errors import UserError
from imagenet.common.options import LARGEST_RATE, comma_separated, number, pair

# Epochs such as 5 + 2.4 are not exact in binary.
ROUNDING = 1e-9


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
        choices=tuple(SCHEDULES),
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
        '--lr-decay-rate',
        type=number(above=0, at_most=1),
        default=0.97,
        help='exponential: the factor of every --lr-decay-epochs (default: %(default)s)',
    )
    group.add_argument('--lr-decay-epochs', type=number(at_least=0.001), default=2.4, help='(default: %(default)s)')
    group.add_argument(
        '--lr-decay-from',
        choices=('warmup', 'start'),
        default='warmup',
        help='exponential: count these epochs from the end of the warm-up, or from the start of the run, so that the '
        'rate has already fallen when the warm-up ends (default: %(default)s)',
    )
    group.add_argument(
        '--lr-points',
        type=comma_separated(pair(number(at_least=0), number(at_least=0, at_most=1000))),
        default=(),
        metavar='EPOCH:FACTOR,…',
        help='piecewise: the rate as multiples of --lr, linear in between; it jumps where an epoch is there twice',
    )
    group.add_argument(
        '--warmup-epochs',
        type=number(at_least=0),
        default=5,
        help='epochs of linear warm-up from 0 (default: %(default)s)',
    )
    group.add_argument(
        '--min-lr',
        type=number(at_least=0, at_most=LARGEST_RATE),
        default=0,
        help='the smallest rate after the warm-up, where the cosine ends (default: %(default)s)',
    )
    group.add_argument(
        '--cooldown-epochs',
        type=number(at_least=0),
        default=0,
        help='train the last N of --num-epochs at --min-lr, after the schedule (default: %(default)s)',
    )
    return group


@dataclass(frozen=True)
class ScheduleOptions:
    """The options of the same names.

    Raises:
        UserError: they contradict each other, or the schedule lacks what it needs.
    """

    lr: float
    lr_schedule: str
    lr_steps: tuple
    lr_factor: float
    lr_decay_rate: float
    lr_decay_epochs: float
    lr_decay_from: str
    lr_points: tuple
    warmup_epochs: float
    min_lr: float
    cooldown_epochs: float
    num_epochs: int

    def __post_init__(self):
        _check_ascending('--lr-steps', self.lr_steps, ','.join(f'{step:g}' for step in self.lr_steps))
        points = ','.join(f'{epoch:g}:{factor:g}' for epoch, factor in self.lr_points)
        _check_ascending('--lr-points', [epoch for epoch, _ in self.lr_points], points)
        if self.lr_schedule == 'multistep' and not self.lr_steps:
            raise UserError('--lr-schedule multistep needs its epochs: --lr-steps 30,60,80')
        if self.lr_schedule == 'piecewise' and not self.lr_points:
            raise UserError('--lr-schedule piecewise needs its points: --lr-points 0:0,5:1,90:0')
        largest = max([max(1, self.lr_factor) ** len(self.lr_steps), *(factor for _, factor in self.lr_points)])
        if self.lr * largest > LARGEST_RATE:
            option = '--lr-points' if self.lr_points else f'--lr-factor {self.lr_factor:g}'
            raise UserError(f'{option}: the learning rate would exceed {LARGEST_RATE:g}')
        if self.min_lr > self.lr:
            raise UserError(f'--min-lr {self.min_lr:g}: must be at most --lr {self.lr:g}')
        if self.cooldown_epochs and not self.min_lr:
            raise UserError(f'--cooldown-epochs {self.cooldown_epochs:g} needs a rate to train at: --min-lr 1e-5')
        if self.cooldown_epochs >= self.num_epochs:
            raise UserError(
                f'--cooldown-epochs {self.cooldown_epochs:g}: must be less than --num-epochs {self.num_epochs}'
            )

    @property
    def end(self):
        """The epoch at which the schedule ends."""
        return self.num_epochs - self.cooldown_epochs

    @property
    def floor(self):
        """The smallest fraction of the peak rate."""
        return self.min_lr / self.lr if self.lr else 0.0


def _check_ascending(option, epochs, text):
    if sorted(epochs) != list(epochs):
        raise UserError(f'{option} {text}: epochs must be in ascending order')


def cosine(epoch, options):
    """Return the fraction of the peak rate: 1 at the end of the warm-up, falling to the floor at the end.

    It starts over at each of the epochs in `lr_steps`, each time from `lr_factor` times the previous peak.
    """
    begin = max((restart for restart in options.lr_steps if restart <= epoch), default=options.warmup_epochs)
    end = min((restart for restart in options.lr_steps if restart > epoch), default=options.end)
    if epoch >= end:
        return options.floor
    above_floor = max(0.0, multistep(epoch, options) - options.floor)
    return options.floor + above_floor * 0.5 * (1 + math.cos(math.pi * (epoch - begin) / (end - begin)))


def multistep(epoch, options):
    """Return the fraction of the peak rate: 1, multiplied by `lr_factor` at each of the epochs in `lr_steps`."""
    return options.lr_factor ** sum(epoch >= step for step in options.lr_steps)


def exponential(epoch, options):
    """Return the fraction of the peak rate: 1, multiplied by `lr_decay_rate` every `lr_decay_epochs`."""
    begin = options.warmup_epochs if options.lr_decay_from == 'warmup' else 0
    return options.lr_decay_rate ** math.floor((epoch - begin) / options.lr_decay_epochs + ROUNDING)


def piecewise(epoch, options):
    """Return the fraction of the peak rate: linear between `lr_points`, and constant before and after them."""
    points = options.lr_points
    before = max((index for index, (begin, _) in enumerate(points) if begin <= epoch), default=None)
    if before is None or before + 1 == len(points):
        return points[before or 0][1]
    (begin, first), (end, last) = points[before : before + 2]
    return first + (last - first) * (epoch - begin) / (end - begin)


# The values of --lr-schedule.
SCHEDULES = {'multistep': multistep, 'cosine': cosine, 'exponential': exponential, 'piecewise': piecewise}


def get_schedule(options):
    """Return the learning rate as a function of the epochs done so far, which may be a fraction.

    It is linear from 0 to the peak in the warm-up; without a warm-up, it starts at the peak.

    Args:
        options: `ScheduleOptions`.
    """
    schedule = SCHEDULES[options.lr_schedule]

    def learning_rate(epoch):
        if epoch < options.warmup_epochs:
            return options.lr * epoch / options.warmup_epochs
        is_cooling = options.cooldown_epochs and epoch >= options.end
        return options.lr * (options.floor if is_cooling else max(options.floor, schedule(epoch, options)))

    return learning_rate
