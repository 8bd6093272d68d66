"""metrics.py: what is counted, and what is not."""

from types import SimpleNamespace

import numpy as np
import pytest
from tqdm import tqdm

from imagenet.checkpoints.manifest import TrainingProgress
from imagenet.common.errors import NonFiniteError, UserError
from imagenet.runtime.compat import mx
from imagenet.training.metrics import Sums, latency_summary, make_batch_statistics, make_scorer, means
from imagenet.training.timing import StepMeter


def count(logits, labels, num_classes):
    loss = mx.nd.arange(len(labels))
    return make_batch_statistics(num_classes)(loss, mx.nd.array(logits), mx.nd.array(labels)).asnumpy()


def test_top_k_equals_numpy():
    random = np.random.RandomState(3)
    logits, labels = random.randn(200, 30), random.randint(0, 30, 200)
    order = np.argsort(-logits, axis=1)
    top1 = (order[:, 0] == labels).sum()
    top5 = (order[:, :5] == labels[:, None]).sum()
    np.testing.assert_array_equal(count(logits, labels, 30), [sum(range(200)), top1, top5, labels.max()])


@pytest.mark.parametrize('num_classes', [2, 30])
def test_host_computes_what_the_device_does(num_classes):
    random = np.random.RandomState(3)
    logits = mx.nd.array(100 * random.randn(200, num_classes))
    labels = mx.nd.array(random.randint(0, num_classes, 200))
    on_device, on_host = (make_scorer(num_classes, on_host)(logits, labels)() for on_host in (False, True))
    np.testing.assert_allclose(on_host, on_device, rtol=1e-5)


def test_host_reveals_a_label_without_a_class():
    numbers = make_scorer(3, True)(mx.nd.array([[1, 0, 0]]), mx.nd.array([7]))()
    assert numbers[3] == 7


def test_lower_class_of_equal_ones_comes_first():
    """An int8 network has few different logits."""
    logits, labels = mx.nd.ones((7, 7)), mx.nd.arange(7)
    assert make_scorer(7, True)(logits, labels)()[1:3].tolist() == [1, 5]


def test_fewer_classes_than_five():
    assert count([[0.0, 1.0], [1.0, 0.0]], [1, 1], 2)[1:3].tolist() == [1, 2]


def test_means_are_per_example():
    sums = Sums()
    sums.add([6.0, 1, 2, 0], 3, 10)
    sums.add([4.0, 1, 1, 0], 1, 10)
    assert means(sums.values()) == {'loss': 2.5, 'top1': 0.5, 'top5': 0.75}


def test_label_without_a_class():
    with pytest.raises(UserError, match='label 10; --num-classes 10 allows 0 to 9'):
        Sums().add([0.0, 0, 0, 10], 1, 10)


def test_latency_percentiles():
    summary = latency_summary([1.0, 2.0, 3.0, 4.0, 10.0])
    assert summary['latency_avg'] == 4
    assert summary['latency_50'] == 3
    assert summary['latency_100'] == 10


def make_meter(no_metrics=False, amp=False, **progress):
    args = SimpleNamespace(num_classes=10, no_metrics=no_metrics, amp=amp)
    return StepMeter(args, tqdm(disable=True), TrainingProgress(seed=0, options={}, **progress))


def test_step_meter_counts_every_step_once():
    with make_meter() as meter:
        for _ in range(50):
            meter.count([mx.nd.array([8.0, 1, 2, 9])], 4)
        meter.wait()
        assert meter.sums.values() == [400, 50, 100, 200]
        assert len(meter.latencies) == 50
        assert sum(meter.latencies) == pytest.approx(meter.seconds)


def test_step_meter_hands_a_failure_to_the_loop():
    with make_meter() as meter:
        meter.count([mx.nd.array([0.0, 0, 0, 10])], 1)
        with pytest.raises(UserError, match='label 10'):
            meter.wait()


def test_step_meter_goes_on():
    with make_meter(sums=[8.0, 1.0, 2.0, 4], latencies=[0.5], seconds=0.5) as meter:
        meter.count([mx.nd.array([8.0, 1, 2, 9])], 4)
        meter.wait()
        assert meter.sums.values() == [16, 2, 4, 8]
        assert len(meter.latencies) == 2
        assert meter.seconds > 0.5


@pytest.mark.parametrize('no_metrics', [False, True])
def test_loss_that_is_no_number(no_metrics):
    with make_meter(no_metrics, epoch=2, iteration=1) as meter:
        meter.count([mx.nd.array([np.nan, 1, 2, 9])], 4)
        with pytest.raises(NonFiniteError, match='the loss is nan in epoch 3, iteration 2'):
            meter.wait()


def test_loss_that_loss_scaling_sees_to_is_not_counted():
    with make_meter(amp=True) as meter:
        for loss in (8.0, np.inf, 8.0):
            meter.count([mx.nd.array([loss, 1, 2, 9])], 4)
        meter.wait()
        assert meter.sums.values() == [16, 2, 4, 8]
        assert len(meter.latencies) == 3
