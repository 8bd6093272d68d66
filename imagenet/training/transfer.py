"""Transfer learning: which parameters of a network training changes, and how fast.

The features are everything before the output layer. Frozen features need no gradients at all, so they are computed as
in prediction, and the backward pass ends at the output layer. A frozen batch norm normalizes with its running
statistics in training as well, which is how the network is built: see `LayerKit`.
"""

from dataclasses import dataclass

from imagenet.common.errors import UserError
from imagenet.common.options import number
from imagenet.runtime.compat import mx

# For each value of --freeze, a function that returns a network's frozen parameters.
FROZEN = {
    'none': lambda net: {},
    'features': lambda net: net.features.collect_params(),
    'batchnorm': lambda net: net.collect_params('.*_(gamma|beta|running_mean|running_var)$'),
}


def add_transfer_args(parser):
    group = parser.add_argument_group('Transfer learning', 'The features are everything before the output layer.')
    group.add_argument(
        '--freeze',
        choices=tuple(FROZEN),
        default='none',
        help='what training leaves as it is: the features, or each batch norm, which then always normalizes with its '
        'running statistics (default: %(default)s)',
    )
    group.add_argument(
        '--lr-mult-features',
        type=number(at_least=0, at_most=1),
        default=1,
        help='the learning rate of the features, as a multiple of that of the output layer (default: %(default)s)',
    )
    return group


@dataclass(frozen=True)
class TransferOptions:
    """The options of the same names.

    Raises:
        UserError: they contradict each other.
    """

    freeze: str
    lr_mult_features: float

    def __post_init__(self):
        if self.lr_mult_features == 0:
            raise UserError(
                '--lr-mult-features 0: must be more than 0; to train only the output layer, use --freeze features'
            )
        if self.freeze == 'features' and self.lr_mult_features != 1:
            raise UserError(
                f'--lr-mult-features {self.lr_mult_features:g}: --freeze features leaves them as they are; '
                'leave out one of the two'
            )


def freeze(net, options):
    """Freeze the parameters that `TransferOptions` name, and set the learning rate of the others.

    Frozen parameters lose the memory for their gradients.

    Returns:
        A function of images that returns logits, for use in training, and the parameters that training changes, running
        statistics included, by name.
    """
    for param in net.features.collect_params().values():
        param.lr_mult = options.lr_mult_features
    frozen = FROZEN[options.freeze](net)
    for param in frozen.values():
        param.grad_req = 'null'
    changing = {name: param for name, param in net.collect_params().items() if name not in frozen}
    return FrozenFeatures(net) if options.freeze == 'features' else net, changing


class FrozenFeatures:
    """A network that computes its features as in prediction, outside of autograd; its output layer trains.

    Args:
        net: a `Classifier`.
    """

    def __init__(self, net):
        self._net = net

    def __call__(self, images):
        with mx.autograd.pause(train_mode=False):
            features = self._net.features(images)
        return self._net.classify(mx.nd, features)
