"""Loss scaling for mixed precision."""

from imagenet.runtime.compat import mx


class FixedLossScaling:
    """Loss scaling by a fixed value, or none at all: every update is made."""

    def __init__(self, value=1.0):
        self.value = value

    def state(self):
        """Return the attributes that a checkpoint must keep, by name."""
        return {}

    def check_gradients(self, gradients):
        return True

    def has_just_skipped(self):
        return False


class DynamicLossScaling:
    """Loss scaling that lets small gradients survive float16; Micikevicius et al. (arXiv:1710.03740), section 3.2.

    If a gradient overflows, the update is skipped and the scale is halved. After `STEPS_BETWEEN_DOUBLINGS` updates
    without an overflow, the scale is doubled.
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
        """Wait for the gradients, scaled and summed over all processes, and return whether they are finite."""
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
        """Return whether the last update was skipped; a skipped update is reported only once."""
        has_skipped, self.has_news = self.has_news and self.skipped_in_a_row > 0, False
        return has_skipped
