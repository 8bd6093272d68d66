"""Mixup, Zhang et al. (arXiv:1710.09412)."""

import numpy as np

from imagenet.runtime.compat import mx
from imagenet.runtime.seeds import derive_seed
from imagenet.training.losses import Targets

# Number of mixup's random stream; data loading and dropout use others.
MIXUP_STREAM = 1


class Mixup:
    """Mixes the images of a batch in pairs, and their labels in the same proportion; section 2.

    Args:
        alpha: the shares are drawn from Beta(alpha, alpha), one per image.
        seed: the run's seed; together with the `moment`, it determines what is drawn.
    """

    def __init__(self, alpha, seed):
        self._alpha = alpha
        self._seed = seed
        self._blend = mx.gluon.nn.HybridLambda(_mix)
        self._blend.hybridize(static_alloc=True, static_shape=True)

    def __call__(self, images, labels, moment):
        """Return the mixed images and their `Targets`; see `Mixing`."""
        random = np.random.RandomState(derive_seed(self._seed, MIXUP_STREAM, *moment))
        shares = random.beta(self._alpha, self._alpha, size=len(labels)).astype(np.float32)
        partners = random.permutation(len(labels))
        shares, partners = (mx.nd.array(values, ctx=images.context) for values in (shares, partners))
        mixed, partner_labels = self._blend(images, labels, partners, shares.astype(images.dtype, copy=False))
        return mixed, Targets(labels, partner_labels, shares)


def _mix(F, images, labels, partners, shares):
    return blend(F, images, partners, F.reshape(shares, (-1, 1, 1, 1))), F.take(labels, partners)


def blend(F, images, partners, weights):
    """Return images mixed with those whose indices are `partners`; `weights` are those of the images themselves."""
    own = F.broadcast_mul(images, weights)
    return own + F.broadcast_mul(F.take(images, partners), 1 - weights)
