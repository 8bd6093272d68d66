"""optimizer.py: each optimizer's update, compared with its formula in float64, and what has no weight decay."""

import numpy as np
import pytest

from helpers.training import make_args
from imagenet.common.errors import UserError
from imagenet.common.options import pick
from imagenet.runtime.compat import mx
from imagenet.training.optimizer import OptimizerOptions, exempt_from_weight_decay, make_optimizer
from models import get_model

SHAPE = (4, 3)
BATCH = 8
RATES = (0.1, 0.1, 0.05, 0.02, 0.02)


def rmsprop_tf(weight, gradient, state, rate, decay, update, epsilon=1e-3, start=0.0):
    n, m = state or (start, 0.0)
    gradient = gradient + decay * weight
    n = 0.9 * n + 0.1 * gradient**2
    m = 0.9 * m + rate * gradient / np.sqrt(n + epsilon)
    return weight - m, (n, m)


def adam_step(gradient, state, update, epsilon):
    m, v = state or (0.0, 0.0)
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    return m / (1 - 0.9**update) / (np.sqrt(v / (1 - 0.999**update)) + epsilon), (m, v)


def adamw(weight, gradient, state, rate, decay, update, epsilon=1e-8):
    step, state = adam_step(gradient, state, update, epsilon)
    return weight - rate * (step + decay * weight), state


def lamb(weight, gradient, state, rate, decay, update, epsilon=1e-6):
    step, state = adam_step(gradient, state, update, epsilon)
    step += decay * weight
    ratio = np.linalg.norm(weight) / np.linalg.norm(step) if decay else 1
    return weight - rate * ratio * step, state


def nag(weight, gradient, state, rate, decay, update):
    m = 0.9 * (0.0 if state is None else state) - rate * (gradient + decay * weight)
    return weight + 0.9 * m - rate * (gradient + decay * weight), m


def updates_of(optimizer, weight, gradients):
    """Return the weight after each update, with gradients that are sums over a batch, as in training."""
    optimizer.rescale_grad = 1 / BATCH
    updater, weight, found = mx.optimizer.get_updater(optimizer), mx.nd.array(weight), []
    for rate, gradient in zip(RATES, gradients):
        optimizer.set_learning_rate(rate)
        updater(0, mx.nd.array(BATCH * gradient), weight)
        found.append(weight.asnumpy())
    return found


def expected_updates(formula, weight, gradients, decay, **settings):
    state, expected = None, []
    for update, (rate, gradient) in enumerate(zip(RATES, gradients), 1):
        weight, state = formula(weight, gradient, state, rate, decay, update, **settings)
        expected.append(weight)
    return expected


def draw():
    random = np.random.RandomState(4)
    return random.standard_normal(SHAPE), random.standard_normal((len(RATES), *SHAPE))


@pytest.mark.parametrize('decay', [0, 0.01])
@pytest.mark.parametrize(
    ('formula', 'settings', 'options'),
    [
        (rmsprop_tf, {}, {'mom': 0.9}),
        (rmsprop_tf, {'start': 1.0}, {'mom': 0.9, 'mean_square_start': 1}),
        (rmsprop_tf, {'epsilon': 0.1}, {'mom': 0.9, 'optimizer_eps': 0.1}),
        (adamw, {}, {}),
        (adamw, {'epsilon': 0.1}, {'optimizer_eps': 0.1}),
        (lamb, {}, {}),
        (nag, {}, {'mom': 0.9}),
    ],
)
def test_update(formula, settings, options, decay):
    args = make_args(optimizer=formula.__name__, wd=decay, **options)
    weight, gradients = draw()
    found = updates_of(make_optimizer(pick(OptimizerOptions, args)), weight, gradients)
    expected = expected_updates(formula, weight, gradients, decay, **settings)
    # MXNet's operators for Adam compute 1 - 0.999 in float32.
    tolerance = 1e-6 if formula in (rmsprop_tf, nag) else 5e-6
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('formula', [rmsprop_tf, adamw, lamb])
def test_float16_keeps_a_float32_copy(formula):
    """Many small updates add up, each of which would be lost in float16."""
    args = make_args(optimizer=formula.__name__, wd=0.0, dtype='float16')
    optimizer = make_optimizer(pick(OptimizerOptions, args))
    weight, gradient = mx.nd.ones(SHAPE, dtype='float16'), mx.nd.ones(SHAPE, dtype='float16')
    optimizer.set_learning_rate(1e-5)
    state = optimizer.create_state_multi_precision(0, weight)
    for _ in range(100):
        optimizer.update_multi_precision(0, weight, gradient, state)
    assert 0.98 < weight.asnumpy().max() < 1


def test_exemptions():
    """Of EfficientNet's parameters, NVIDIA's recipe decays all but those of batch norm and the depthwise kernels."""

    def decayed(*kinds):
        net = get_model(arch='efficientnet_b0', num_classes=10)
        exempt_from_weight_decay(net, kinds)
        return {name for name, param in net.collect_params().items() if param.grad_req != 'null' and param.wd_mult}

    everything = decayed()
    batch_norm = {name for name in everything if name.endswith(('gamma', 'beta'))}
    biases = {name for name in everything if name.endswith('bias')}
    weights = everything - batch_norm - biases
    assert decayed('batchnorm', 'bias') == weights
    assert decayed('batchnorm') == weights | biases
    depthwise = everything - decayed('depthwise')
    # One per block.
    assert len(depthwise) == 16
    assert depthwise < weights
    assert decayed('batchnorm', 'depthwise') == weights - depthwise | biases


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'optimizer': 'adamm'}, r'--optimizer adamm: must be one of .*adam, .*lamb, .*rmsprop_tf'),
        ({'optimizer': 'adam', 'mom': 0.5}, '--mom 0.5: --optimizer adam has no momentum'),
        ({'optimizer': 'lamb', 'mom': 0.5}, '--mom 0.5: --optimizer lamb has no momentum'),
        ({'mean_square_start': 1}, '--mean-square-start 1: --optimizer sgd has no mean square start'),
        ({'optimizer_eps': 1e-3}, '--optimizer-eps 0.001: --optimizer sgd has no epsilon'),
    ],
)
def test_contradicting_options(changes, message):
    with pytest.raises(UserError, match=message):
        pick(OptimizerOptions, make_args(**changes))
