"""How a convolution pads its input: functions of an axis's length, the kernel size and the stride.

They return the padding before and after the axis.
"""

import math


def symmetric_padding(length, kernel_size, stride):
    return kernel_size // 2, kernel_size // 2


def same_padding(length, kernel_size, stride):
    """Return TensorFlow's padding 'SAME'."""
    total = max((math.ceil(length / stride) - 1) * stride + kernel_size - length, 0)
    return total // 2, total - total // 2


# The values of `--padding`. Both give an output of ceil(length / stride).
PADDINGS = {'symmetric': symmetric_padding, 'same': same_padding}
