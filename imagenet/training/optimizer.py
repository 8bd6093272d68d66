"""Optimizer options, and which parameters have weight decay."""

import inspect
from dataclasses import dataclass

from imagenet.common.errors import UserError
from imagenet.common.options import SMALLEST, integer, names_from, number, option_name
from imagenet.runtime.compat import mx
from imagenet.training.adamw import AdamW
from imagenet.training.ema import EMA_WARMUPS
from imagenet.training.lamb import Lamb
from imagenet.training.nag import NAG
from imagenet.training.rmsprop_tf import RMSPropTF

DEFAULT_MOMENTUM = 0.875
# Those that MXNet lacks or computes otherwise; all of MXNet's are available by their names there.
OPTIMIZERS = {'rmsprop_tf': RMSPropTF, 'adamw': AdamW, 'lamb': Lamb, 'nag': NAG}
# The options that only some optimizers have, and the optimizers' names for them.
SETTINGS = {
    'mom': 'momentum',
    'optimizer_eps': 'epsilon',
    'mean_square_decay': 'mean_square_decay',
    'mean_square_start': 'mean_square_start',
}


def _parameters_called(*endings):
    """Return a function of a network that returns its parameters whose names end in one of the given ways."""
    return lambda net: [param for name, param in net.collect_params().items() if name.endswith(endings)]


def _depthwise_weights(net):
    """Return the weights of convolutions with one input channel per group."""
    weights = []

    def collect(block):
        if isinstance(block, mx.gluon.nn.Conv2D) and block._kwargs['num_group'] == block._in_channels > 1:
            weights.append(block.weight)

    net.apply(collect)
    return weights


# The values of --wd-exclude, and the parameters that they stand for.
EXEMPTIONS = {
    'batchnorm': _parameters_called('gamma', 'beta'),
    'bias': _parameters_called('bias'),
    'depthwise': _depthwise_weights,
}


def add_optimization_args(parser):
    group = parser.add_argument_group('Optimization')
    group.add_argument(
        '--optimizer',
        default='sgd',
        help='rmsprop_tf (RMSProp as TensorFlow computes it), adamw, lamb, nag, or the name of any other optimizer in '
        'MXNet, such as adam (default: %(default)s)',
    )
    group.add_argument(
        '--mom',
        type=number(at_least=0, below=1),
        default=DEFAULT_MOMENTUM,
        help='momentum, for optimizers that have one (default: %(default)s)',
    )
    group.add_argument(
        '--optimizer-eps',
        type=number(at_least=SMALLEST, at_most=1),
        help="the optimizer's epsilon, which keeps it from dividing by 0 (default: the optimizer's own; rmsprop_tf "
        '0.001, lamb 1e-6, adamw 1e-8)',
    )
    group.add_argument(
        '--mean-square-decay',
        type=number(at_least=0, below=1),
        help='rmsprop_tf: decay of the mean square of the gradient (default: 0.9)',
    )
    group.add_argument(
        '--mean-square-start',
        type=number(at_least=0),
        help='rmsprop_tf: first value of the mean square: 0 as in Keras, or 1 as in TensorFlow 1 and timm (default: 0)',
    )
    group.add_argument(
        '--wd',
        type=number(at_least=0),
        default=1 / 32768,
        help='weight decay; part of the gradient, but decoupled with adamw (default: %(default)s)',
    )
    group.add_argument(
        '--wd-exclude',
        type=names_from(EXEMPTIONS),
        default=('batchnorm', 'bias'),
        help=f'parameters without weight decay: {", ".join(EXEMPTIONS)}, separated by commas, or none '
        '(default: batchnorm,bias)',
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
        '--ema-warmup',
        choices=tuple(EMA_WARMUPS),
        default='tensorflow',
        help='how the decay reaches that value: tensorflow: min(decay, (1 + n) / (10 + n)) in update n; none: at once '
        '(default: %(default)s)',
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
        UserError: there is no such optimizer, or it has no use for an option that is set.
    """

    optimizer: str
    lr: float
    mom: float
    optimizer_eps: float
    mean_square_decay: float
    mean_square_start: float
    wd: float
    dtype: str

    def __post_init__(self):
        parameters = _parameters(self.optimizer)
        for name, parameter in SETTINGS.items():
            value, default = getattr(self, name), DEFAULT_MOMENTUM if name == 'mom' else None
            if value != default and parameter not in parameters:
                what = parameter.replace('_', ' ')
                raise UserError(f'{option_name(name)} {value:g}: --optimizer {self.optimizer} has no {what}')


def _find(name):
    """Return the class of an optimizer; raise `UserError` if there is none."""
    known = {**mx.optimizer.Optimizer.opt_registry, **OPTIMIZERS}
    if name.lower() not in known:
        raise UserError(f'--optimizer {name}: must be one of {", ".join(sorted(known))}')
    return known[name.lower()]


def _parameters(name):
    return inspect.signature(_find(name)).parameters


def make_optimizer(options):
    """Return the optimizer of `OptimizerOptions`. Weight decay is set per parameter: see `exempt_from_weight_decay`."""
    parameters = _parameters(options.optimizer)
    chosen = {parameter: getattr(options, name) for name, parameter in SETTINGS.items() if parameter in parameters}
    settings = {name: value for name, value in chosen.items() if value is not None}
    return _find(options.optimizer)(
        learning_rate=options.lr, wd=options.wd, multi_precision=options.dtype == 'float16', **settings
    )


def exempt_from_weight_decay(net, kinds):
    """Exempt parameters of a network from weight decay.

    Args:
        kinds: names in `EXEMPTIONS`.
    """
    for param in (param for kind in kinds for param in EXEMPTIONS[kind](net)):
        param.wd_mult = 0.0
