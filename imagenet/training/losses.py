"""Label-smoothed cross-entropy."""

from imagenet.runtime.compat import mx


class CrossEntropy(mx.gluon.HybridBlock):
    """Cross-entropy with smoothed labels, Szegedy et al. (arXiv:1512.00567), section 7.

    Inputs: logits `(N, num_classes)`, class indices `(N,)`. Output: `(N,)`.
    """

    def __init__(self, smoothing=0.0):
        super().__init__()
        self._smoothing = smoothing

    def hybrid_forward(self, F, logits, labels):
        log_probabilities = F.log_softmax(logits)
        loss = -F.pick(log_probabilities, labels)
        if self._smoothing:
            uniform_loss = -F.mean(log_probabilities, axis=1)
            loss = (1 - self._smoothing) * loss + self._smoothing * uniform_loss
        return loss


class PlainLoss:
    """The loss of a batch as it is."""

    def __init__(self, cross_entropy):
        self._cross_entropy = cross_entropy

    def __call__(self, net, images, labels, moment):
        """(logits, loss per example, labels that count as right)."""
        logits = net(images)
        return logits, self._cross_entropy(logits, labels), labels
