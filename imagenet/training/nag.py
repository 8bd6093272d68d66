"""SGD with Nesterov's momentum; MXNet's own leaves part of the weight decay out."""

from imagenet.runtime.compat import mx


class NAG(mx.optimizer.Optimizer):
    """Nesterov's accelerated gradient: Sutskever et al., "On the importance of initialization and momentum" (2013).

    With the gradient g, to which weight decay is added, as PyTorch computes it:

        m = momentum * m - learning_rate * g
        w = w + momentum * m - learning_rate * g

    In MXNet's `nag`, the g in the second line is without weight decay.
    """

    def __init__(self, learning_rate=0.1, momentum=0.0, **settings):
        super().__init__(learning_rate=learning_rate, **settings)
        self.momentum = momentum

    def create_state(self, index, weight):
        """Return m for a weight."""
        return mx.nd.zeros_like(weight)

    def update(self, index, weight, grad, state):
        """Update a weight in place."""
        self._update_count(index)
        grad = self.rescale_grad * grad
        decay = self._get_wd(index)
        if decay:
            grad += decay * weight
        mx.nd.nag_mom_update(weight, grad, state, lr=self._get_lr(index), momentum=self.momentum, wd=0, out=weight)
