"""Optimizer options, and which parameters have weight decay."""

import inspect
from dataclasses import dataclass

from imagenet.common.errors import UserError
from imagenet.common.options import integer, number
from imagenet.runtime.compat import mx

DEFAULT_MOMENTUM = 0.875


def add_optimization_args(parser):
    group = parser.add_argument_group('Optimization')
    group.add_argument(
        '--optimizer',
        default='sgd',
        help='any MXNet optimizer, by its name in MXNet, such as nag, adam, lamb (default: %(default)s)',
    )
    group.add_argument(
        '--mom',
        type=number(at_least=0, below=1),
        default=DEFAULT_MOMENTUM,
        help='momentum, for optimizers that have one (default: %(default)s)',
    )
    group.add_argument(
        '--wd', type=number(at_least=0), default=1 / 32768, help='weight decay, on weights only (default: %(default)s)'
    )
    group.add_argument(
        '--label-smoothing',
        type=number(at_least=0, below=1),
        default=0.1,
        help='weight of the uniform distribution in the labels (default: %(default)s)',
    )
    group.add_argument(
        '--mixup',
        type=number(at_least=0, at_most=1000),
        default=0,
        help='mix each training image with another one, with shares from Beta(X, X); 0: no mixup (default: 0)',
    )
    group.add_argument(
        '--grad-accum-steps',
        type=integer(at_least=1),
        default=1,
        help='batches whose gradients are averaged for one update (default: %(default)s)',
    )
    group.add_argument(
        '--grad-clip-norm',
        type=number(above=0),
        help='scale the gradients down if their norm, over all parameters, exceeds this (default: no clipping)',
    )
    group.add_argument(
        '--ema-decay',
        type=number(above=0, below=1),
        help='also keep, validate and save an exponential moving average of the parameters, such as 0.9999',
    )
    group.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision by MXNet, with dynamic loss scaling: float16 on a GPU, bfloat16 on a CPU',
    )
    return group


@dataclass(frozen=True)
class OptimizerOptions:
    """The options of the same names.

    Raises:
        UserError: MXNet has no such optimizer, or --mom is set and the optimizer has no momentum.
    """

    optimizer: str
    lr: float
    mom: float
    wd: float
    dtype: str

    def __post_init__(self):
        known = mx.optimizer.Optimizer.opt_registry
        if self.optimizer.lower() not in known:
            raise UserError(f'--optimizer {self.optimizer}: MXNet has {", ".join(sorted(known))}')
        if self.mom != DEFAULT_MOMENTUM and not _has_momentum(self.optimizer):
            raise UserError(f'--mom {self.mom:g}: --optimizer {self.optimizer} has no momentum')


def _has_momentum(optimizer):
    return 'momentum' in inspect.signature(mx.optimizer.Optimizer.opt_registry[optimizer.lower()]).parameters


def make_optimizer(options):
    """Return the optimizer of `OptimizerOptions`. Weight decay is set per parameter: see `exempt_from_weight_decay`."""
    settings = {'learning_rate': options.lr, 'wd': options.wd, 'multi_precision': options.dtype == 'float16'}
    if _has_momentum(options.optimizer):
        settings['momentum'] = options.mom
    return mx.optimizer.create(options.optimizer, **settings)


def exempt_from_weight_decay(params):
    """Exempt batch norm's gamma and beta and all biases from weight decay, so that it applies to weights only."""
    for name, param in params.items():
        if not name.endswith('weight'):
            param.wd_mult = 0.0
