"""Learning-rate schedules: pure functions of the epoch, which may be a fraction.

The cosine is Loshchilov and Hutter, "SGDR" (arXiv:1608.03983), equation 5, without restarts; the linear warm-up is
Goyal et al., "Accurate, Large Minibatch SGD" (arXiv:1706.02677), section 2.2.
"""

import functools
import math


def cosine(epoch, num_epochs, warmup_epochs):
    """1 at the end of the warm-up, 0 at `num_epochs` and after."""
    if epoch >= num_epochs:
        return 0.0
    progress = (epoch - warmup_epochs) / (num_epochs - warmup_epochs)
    return 0.5 * (1 + math.cos(math.pi * progress))


def learning_rate(epoch, peak, num_epochs, warmup_epochs):
    """The rate at a moment of the run: a straight line from 0 to `peak`, then a cosine to 0.

    Args:
        epoch: epochs done so far, with a fraction inside an epoch.
        peak: the rate at the end of the warm-up.
        num_epochs: length of the whole run.
        warmup_epochs: length of the straight line; 0 starts at the full rate.
    """
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    return peak * cosine(epoch, num_epochs, warmup_epochs)


def get_schedule(args):
    """The run's schedule, a function of the epoch alone."""
    return functools.partial(learning_rate, peak=args.lr, num_epochs=args.num_epochs, warmup_epochs=args.warmup_epochs)
