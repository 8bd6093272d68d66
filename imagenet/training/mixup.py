"""Mixup, Zhang et al. (arXiv:1710.09412)."""

import numpy as np

from imagenet.runtime.compat import mx
from imagenet.runtime.seeds import derive_seed

# Number of mixup's random stream; data loading uses others.
MIXUP_STREAM = 1


class MixupLoss:
    """The loss of a batch whose images are mixed in pairs, and their labels in the same proportion; section 2.

    Args:
        alpha: the shares are drawn from Beta(alpha, alpha), one per image.
        seed: the run's seed; together with the `moment`, it determines what is drawn.
    """

    def __init__(self, cross_entropy, alpha, seed):
        self._cross_entropy = cross_entropy
        self._alpha = alpha
        self._seed = seed
        self._mix = mx.gluon.nn.HybridLambda(_mix)
        self._mix.hybridize(static_alloc=True, static_shape=True)

    def __call__(self, net, images, labels, moment):
        """Return the same as `PlainLoss`; the label with the larger share counts as correct."""
        random = np.random.RandomState(derive_seed(self._seed, MIXUP_STREAM, *moment))
        shares = random.beta(self._alpha, self._alpha, size=len(labels)).astype(np.float32)
        partners = random.permutation(len(labels))
        shares, partners = (mx.nd.array(values, ctx=images.context) for values in (shares, partners))
        mixed, partner_labels, larger = self._mix(images, labels, shares, shares.astype(images.dtype), partners)
        logits = net(mixed)
        loss = shares * self._cross_entropy(logits, labels)
        return logits, loss + (1 - shares) * self._cross_entropy(logits, partner_labels), larger


def _mix(F, images, labels, shares, shares_of_images, partners):
    partner_labels = F.take(labels, partners)
    shares_of_images = F.reshape(shares_of_images, (-1, 1, 1, 1))
    own = F.broadcast_mul(images, shares_of_images)
    mixed = own + F.broadcast_mul(F.take(images, partners), 1 - shares_of_images)
    return mixed, partner_labels, F.where(shares >= 0.5, labels, partner_labels)
