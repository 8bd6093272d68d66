"""Adam with decoupled weight decay, which MXNet has as an operator only."""

import math

from imagenet.runtime.compat import mx


class AdamW(mx.optimizer.Adam):
    """AdamW: Loshchilov and Hutter (arXiv:1711.05101), algorithm 2, with the decay multiplied by the learning rate.

    That is also PyTorch's form: w = w - learning_rate * (m' / (sqrt(v') + epsilon) + weight_decay * w), with the
    moments m' and v' corrected for their start at 0.
    """

    def update(self, index, weight, grad, state):
        """Update a weight in place."""
        self._update_count(index)
        mean, variance = state
        updates, learning_rate = self._index_update_count[index], self._get_lr(index)
        # The operator has no bias correction: it is part of its learning rate and epsilon.
        root = math.sqrt(1 - self.beta2**updates)
        mx.nd.contrib.adamw_update(
            weight,
            grad,
            mean,
            variance,
            self.rescale_grad,
            lr=learning_rate * root / (1 - self.beta1**updates),
            eta=1,
            wd=learning_rate * self._get_wd(index),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon * root,
            out=weight,
        )
