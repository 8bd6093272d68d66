"""LAMB, which takes an Adam step of a length in proportion to the weight's norm."""

from imagenet.runtime.compat import mx


class Lamb(mx.optimizer.Adam):
    """LAMB: You et al. (arXiv:1904.00962), algorithm 2.

    Parameters without weight decay, such as biases, take the plain Adam step, as in the authors' code and in timm.
    MXNet's LAMB adapts their step too.
    """

    def __init__(self, epsilon=1e-6, **settings):
        super().__init__(epsilon=epsilon, **settings)

    def update(self, index, weight, grad, state):
        """Update a weight in place."""
        self._update_count(index)
        mean, variance = state
        decay = self._get_wd(index)
        settings = {
            'beta1': self.beta1,
            'beta2': self.beta2,
            'epsilon': self.epsilon,
            'rescale_grad': self.rescale_grad,
        }
        step = mx.nd.lamb_update_phase1(
            weight, grad, mean, variance, t=self._index_update_count[index], wd=decay, **settings
        )
        # The operator takes a norm of 0 for a ratio of 1.
        norm = weight.norm() if decay else mx.nd.zeros(1, ctx=weight.context, dtype=weight.dtype)
        mx.nd.lamb_update_phase2(weight, step, norm, step.norm(), lr=self._get_lr(index), out=weight)
