"""Exponential moving average of the parameters."""

from contextlib import contextmanager

from imagenet.runtime.compat import mx

# The values of --ema-warmup: the largest decay as a function of the number of updates, from 1. TensorFlow's is that of
# its `ExponentialMovingAverage`: the average forgets the initial values.
EMA_WARMUPS = {'tensorflow': lambda updates: (1 + updates) / (10 + updates), 'none': lambda updates: 1.0}


class ParameterEMA:
    """An exponential moving average of parameters, running statistics included, in float32.

    Args:
        params: name to `Parameter`.
        decay: weight of the average in an update; the new values have the rest.
        warmup: a name in `EMA_WARMUPS`.
    """

    def __init__(self, params, decay, warmup):
        self._params = params
        self._decay = decay
        self._largest_decay = EMA_WARMUPS[warmup]
        self.updates = 0
        self.arrays = {name: param.data(param.list_ctx()[0]).astype('float32') for name, param in params.items()}

    def update(self):
        self.updates += 1
        decay = min(self._decay, self._largest_decay(self.updates))
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
