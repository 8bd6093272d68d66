"""Exponential moving average of the parameters."""

from contextlib import contextmanager

from imagenet.runtime.compat import mx


class ParameterEMA:
    """An exponential moving average of parameters, running statistics included, in float32.

    The decay grows to its value over the first updates, min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    `ExponentialMovingAverage`, so that the average forgets the initial values.

    Args:
        params: name to `Parameter`.
    """

    def __init__(self, params, decay):
        self._params = params
        self._decay = decay
        self.updates = 0
        self.arrays = {name: param.data(param.list_ctx()[0]).astype('float32') for name, param in params.items()}

    def update(self):
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self.arrays.items():
            param = self._params[name]
            value = param.data(param.list_ctx()[0]).astype('float32', copy=False)
            mx.nd.elemwise_add(decay * average, (1 - decay) * value, out=average)

    @contextmanager
    def applied(self):
        """Set the parameters to their averages within the block."""
        raw = {name: param.data(param.list_ctx()[0]).copy() for name, param in self._params.items()}
        try:
            for name, array in self.arrays.items():
                self._params[name].set_data(array.astype(self._params[name].dtype))
            yield
        finally:
            for name, array in raw.items():
                self._params[name].set_data(array)
