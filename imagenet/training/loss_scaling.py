"""Loss scaling for mixed precision."""

from imagenet.runtime.compat import mx


class NoLossScaling:
    """No loss scaling: every update is made."""

    value = 1.0

    def state(self):
        """Return what a checkpoint must keep: attributes by name."""
        return {}

    def check_gradients(self, gradients):
        return True

    def has_just_skipped(self):
        return False


class DynamicLossScaling:
    """Scales the loss so that small gradients survive float16; Micikevicius et al. (arXiv:1710.03740), section 3.2.

    It is halved where a gradient overflows, whose update is skipped, and doubled after many that did not.
    """

    FIRST, LARGEST, STEPS_BETWEEN_DOUBLINGS = 2.0**16, 2.0**24, 2000

    def __init__(self):
        self.value = self.FIRST
        self.steps_since_change = 0
        self.skipped_in_a_row = 0
        self.has_news = False

    def state(self):
        return vars(self).copy()

    def check_gradients(self, gradients):
        """Whether the gradients, scaled and summed over all processes, are finite; waits for them."""
        is_finite = mx.nd.multi_all_finite(*gradients, num_arrays=len(gradients)).asscalar() == 1
        self.steps_since_change += 1
        self.has_news = True
        if not is_finite:
            self.value = max(1.0, self.value / 2)
            self.steps_since_change = 0
            self.skipped_in_a_row += 1
        else:
            self.skipped_in_a_row = 0
            if self.steps_since_change >= self.STEPS_BETWEEN_DOUBLINGS:
                self.value = min(self.LARGEST, self.value * 2)
                self.steps_since_change = 0
        return is_finite

    def has_just_skipped(self):
        """Whether the last update was skipped; once per update."""
        has_skipped, self.has_news = self.has_news and self.skipped_in_a_row > 0, False
        return has_skipped
