"""`--tta`: the mean of the logits over several views of each image."""

import numpy as np

NONE, FLIP = 'none', 'flip'


def add_tta_args(parser):
    group = parser.add_argument_group('Test-time augmentation')
    group.add_argument(
        '--tta',
        choices=(NONE, FLIP),
        default=NONE,
        help='--mode val and pred; flip: the mean of the logits of each image and of its mirror image, which takes '
        'twice as long (default: %(default)s)',
    )
    return group


class FlippingNetwork:
    """A network that averages the logits of each image and of its mirror image.

    Args:
        net: a network, or an engine in place of one; see `as_network` in engines.py.
        input_layout: 'NCHW' or 'NHWC'.
    """

    def __init__(self, net, input_layout):
        self._net = net
        self._width_axis = input_layout.index('W')

    def __call__(self, images):
        return (self._net(images) + self._net(images.flip(axis=self._width_axis))) / 2


class FlippingEngine:
    """An engine, as in engines.py, that averages the logits of each image and of its mirror image."""

    def __init__(self, engine):
        self._engine = engine

    def start(self, images):
        """Start to compute the logits of images `(N, 3, H, W)`; return a function that waits for them."""
        plain, flipped = self._engine.start(images), self._engine.start(np.ascontiguousarray(images[..., ::-1]))
        return lambda: (plain() + flipped()) / 2
