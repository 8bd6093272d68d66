"""RMSProp as TensorFlow computes it; MXNet's own has momentum only with centering, and another rule."""

from imagenet.runtime.compat import mx


class RMSPropTF(mx.optimizer.Optimizer):
    """RMSProp with momentum, without centering; the rule of TensorFlow's `ApplyRMSProp`.

    With the gradient g, to which weight decay is added:

        n = decay * n + (1 - decay) * g^2
        m = momentum * m + learning_rate * g / sqrt(n + epsilon)
        w = w - m

    Epsilon is inside the root, and the learning rate inside the momentum.

    Args:
        mean_square_decay: `decay`.
        mean_square_start: the first value of n: 1 in TensorFlow 1 and in timm, 0 in Keras.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        epsilon=1e-3,
        mean_square_decay=0.9,
        mean_square_start=0.0,
        **settings,
    ):
        super().__init__(learning_rate=learning_rate, **settings)
        self.momentum = momentum
        self.epsilon = epsilon
        self.mean_square_decay = mean_square_decay
        self.mean_square_start = mean_square_start

    def create_state(self, index, weight):
        """Return (n, m) for a weight."""
        return mx.nd.full(
            weight.shape, self.mean_square_start, ctx=weight.context, dtype=weight.dtype
        ), mx.nd.zeros_like(weight)

    def update(self, index, weight, grad, state):
        """Update a weight in place."""
        self._update_count(index)
        mean_square, momentum = state
        grad = self.rescale_grad * grad
        decay = self._get_wd(index)
        if decay:
            grad += decay * weight
        mean_square *= self.mean_square_decay
        mean_square += (1 - self.mean_square_decay) * mx.nd.square(grad)
        grad /= mx.nd.sqrt(mean_square + self.epsilon)
        settings = {'momentum': self.momentum, 'lr': self._get_lr(index), 'wd': 0}
        # Its momentum has the opposite sign.
        mx.nd.sgd_mom_update(weight, grad, momentum, out=weight, **settings)
