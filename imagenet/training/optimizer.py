"""Optimizer options, and which parameters have weight decay."""

import inspect

import numpy as np

from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

DEFAULT_MOMENTUM = 0.875


def add_optimization_args(parser):
    group = parser.add_argument_group('Optimization')
    group.add_argument(
        '--optimizer',
        default='sgd',
        help='any optimizer of MXNet by its name there, such as nag, adam, lamb (default: %(default)s)',
    )
    group.add_argument(
        '--mom',
        type=float,
        default=DEFAULT_MOMENTUM,
        help='momentum, for optimizers that have one (default: %(default)s)',
    )
    group.add_argument(
        '--wd', type=float, default=1 / 32768, help='weight decay, on weights only (default: %(default)s)'
    )
    group.add_argument(
        '--label-smoothing', type=float, default=0.1, help='share of the uniform label (default: %(default)s)'
    )
    group.add_argument(
        '--mixup',
        type=float,
        default=0,
        help='mix each training image with another one, with shares from Beta(X, X); 0: not at all (default: 0)',
    )
    group.add_argument(
        '--grad-accum-steps',
        type=int,
        default=1,
        help='batches whose gradients are averaged for one update (default: %(default)s)',
    )
    group.add_argument(
        '--grad-clip-norm',
        type=float,
        help='scale the gradient of all parameters together down to this norm where it is larger (default: leave it)',
    )
    group.add_argument(
        '--ema-decay',
        type=float,
        help='also keep, validate and save an exponential moving average of the parameters, such as 0.9999',
    )
    group.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision by MXNet, with dynamic loss scaling: float16 on a GPU, bfloat16 on a CPU',
    )
    return group


def check_optimization_args(args):
    """Raises `UserError` for options that contradict each other or have no meaning."""
    for name, is_right, needed in (
        ('mom', 0 <= args.mom < 1, '0 <= value < 1'),
        ('wd', 0 <= args.wd < np.inf, 'a number of at least 0'),
        ('label_smoothing', 0 <= args.label_smoothing < 1, '0 <= smoothing < 1'),
        ('mixup', 0 <= args.mixup < np.inf, 'a number of at least 0'),
        ('grad_accum_steps', args.grad_accum_steps >= 1, 'at least 1'),
        ('grad_clip_norm', args.grad_clip_norm is None or args.grad_clip_norm > 0, 'more than 0'),
        ('ema_decay', args.ema_decay is None or 0 < args.ema_decay < 1, '0 < decay < 1'),
    ):
        if not is_right:
            raise UserError(f'--{name.replace("_", "-")} {getattr(args, name):g}: needed is {needed}')
    known = mx.optimizer.Optimizer.opt_registry
    if args.optimizer.lower() not in known:
        raise UserError(f'--optimizer {args.optimizer}: MXNet has {", ".join(sorted(known))}')
    if args.mom != DEFAULT_MOMENTUM and not _has_momentum(args.optimizer):
        raise UserError(f'--mom {args.mom:g}: --optimizer {args.optimizer} has no momentum')
    if args.amp and args.dtype == 'float16':
        raise UserError('--amp with --dtype float16: it chooses precisions itself; use --dtype float32')


def _has_momentum(optimizer):
    return 'momentum' in inspect.signature(mx.optimizer.Optimizer.opt_registry[optimizer.lower()]).parameters


def make_optimizer(args):
    """The optimizer that `--optimizer` names. Weight decay is per parameter: see `exempt_from_weight_decay`."""
    settings = {'learning_rate': args.lr, 'wd': args.wd, 'multi_precision': args.dtype == 'float16'}
    if _has_momentum(args.optimizer):
        settings['momentum'] = args.mom
    return mx.optimizer.create(args.optimizer, **settings)


def exempt_from_weight_decay(params):
    """Leaves weight decay to weights: batch norm's gamma and beta and all biases go without."""
    for name, param in params.items():
        if not name.endswith('weight'):
            param.wd_mult = 0.0
