"""Label-smoothed cross-entropy."""

from imagenet.runtime.compat import mx


def make_cross_entropy(smoothing=0.0):
    """Return a block for the cross-entropy with smoothed labels, Szegedy et al. (arXiv:1512.00567), section 7.

    Its inputs are logits `(N, num_classes)` and class indices `(N,)`, its output `(N,)`.
    """

    def loss_per_example(F, logits, labels):
        log_probabilities = F.log_softmax(logits)
        loss = -F.pick(log_probabilities, labels)
        if smoothing:
            uniform_loss = -F.mean(log_probabilities, axis=1)
            loss = (1 - smoothing) * loss + smoothing * uniform_loss
        return loss

    return mx.gluon.nn.HybridLambda(loss_per_example)


class PlainLoss:
    """The loss of a batch whose images are not mixed."""

    def __init__(self, cross_entropy):
        self._cross_entropy = cross_entropy

    def __call__(self, net, images, labels, moment):
        """Return (logits, loss per example, labels that count as correct)."""
        logits = net(images)
        return logits, self._cross_entropy(logits, labels), labels
