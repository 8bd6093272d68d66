"""losses.py: compared with the definitions, written out with NumPy."""

import numpy as np
import pytest

from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx
from imagenet.training.losses import LossOptions, Targets, make_cross_entropy, make_loss

CLASSES = 5
LABELS, PARTNERS, SHARES = [1, 4, 0, 2], [2, 4, 3, 1], [0.9, 0.5, 0.3, 0.0]


def loss_of(**changes):
    options = {'label_smoothing': 0.0, 'bce_loss': False, 'bce_target_threshold': None, 'num_classes': CLASSES}
    return make_loss(LossOptions(**{**options, **changes}))


def make_logits():
    # Large enough that exp() of them overflows float32.
    return np.random.RandomState(0).standard_normal((4, CLASSES)) * [[1], [5], [30], [200]]


def as_targets(is_mixed):
    labels, partners, shares = (mx.nd.array(values) for values in (LABELS, PARTNERS, SHARES))
    return Targets(labels, partners, shares) if is_mixed else Targets(labels)


def dense_targets(smoothing, is_mixed):
    """Return each class's target `(N, CLASSES)`: smoothed, then mixed."""
    own, partner = (np.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES for labels in (LABELS, PARTNERS))
    shares = np.array(SHARES)[:, None] if is_mixed else 1
    return shares * own + (1 - shares) * partner


@pytest.mark.parametrize('is_mixed', [False, True])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy(smoothing, is_mixed):
    logits = make_logits()
    log_sums = logits.max(axis=1) + np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
    expected = -(dense_targets(smoothing, is_mixed) * (logits - log_sums[:, None])).sum(axis=1)
    found = loss_of(label_smoothing=smoothing)(mx.nd.array(logits), as_targets(is_mixed))
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('is_mixed', [False, True])
@pytest.mark.parametrize(('smoothing', 'threshold'), [(0.0, None), (0.1, None), (0.0, 0), (0.1, 0.2), (0.5, 0.15)])
def test_binary_cross_entropy(smoothing, threshold, is_mixed):
    logits, targets = make_logits(), dense_targets(smoothing, is_mixed)
    if threshold is not None:
        targets = (targets > threshold).astype(float)
    expected = (np.logaddexp(0, logits) - targets * logits).mean(axis=1)
    loss = loss_of(label_smoothing=smoothing, bce_loss=True, bce_target_threshold=threshold)
    scores = mx.nd.array(logits)
    scores.attach_grad()
    with mx.autograd.record():
        found = loss(scores, as_targets(is_mixed))
    found.backward()
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5)
    probabilities = np.exp(-np.logaddexp(0, -logits))
    np.testing.assert_allclose(scores.grad.asnumpy(), (probabilities - targets) / CLASSES, atol=1e-6)


def test_gradients_survive_float16():
    """Of a class that the network rightly thinks unlikely, float16 would lose the gradient if it were not scaled."""
    unlikely = -7.0
    gradients = {}
    for bce_loss in (False, True):
        loss = loss_of(bce_loss=bce_loss, num_classes=1000)
        scores = mx.nd.full((1, 1000), unlikely)
        scores.attach_grad()
        with mx.autograd.record():
            value = loss(scores, Targets(mx.nd.array([3])))
        value.backward(mx.nd.ones_like(value) * loss.gradient_scale)
        gradients[bce_loss] = scores.grad.astype('float16').asnumpy()[0, 0]
    assert gradients[False] == pytest.approx(1e-3, rel=0.01)
    assert gradients[True] == pytest.approx(1024 / 1000 / (1 + np.exp(-unlikely)), rel=0.01)


def test_label_smoothing():
    logits = mx.nd.array([[2.0, 0.0, 0.0]])
    log_probabilities = np.log(np.exp([2.0, 0, 0]) / np.exp([2.0, 0, 0]).sum())
    expected = -(np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]) * log_probabilities).sum()
    assert make_cross_entropy(0.1)(logits, mx.nd.array([0])).asscalar() == pytest.approx(expected, rel=1e-5)


def test_threshold_of_another_loss():
    with pytest.raises(UserError, match='--bce-target-threshold 0.2: needs --bce-loss'):
        loss_of(bce_target_threshold=0.2)


@pytest.mark.parametrize(('smoothing', 'threshold'), [(0.1, 0.01), (0.1, 0.92), (0.9, 0.5)])
def test_threshold_beyond_all_targets(smoothing, threshold):
    """Every class would have the same target."""
    with pytest.raises(UserError, match=f'--bce-target-threshold {threshold}: .* it must be between them'):
        loss_of(label_smoothing=smoothing, bce_loss=True, bce_target_threshold=threshold)
