"""epoch_summary.py: what is logged per epoch and per run."""

from imagenet.reporting.dllogger import METRIC_UNITS
from imagenet.reporting.epoch_summary import DLLOGGER_NAMES, epoch_summary, run_summary


def test_epoch():
    results = {
        'train': {'loss': 2.0, 'top1': 0.5, 'top5': 0.9, 'total_ips': 100.0, 'lr': 0.1, 'latency_avg': 0.3},
        'val': {'loss': 3.0, 'top1': 0.4, 'top5': 0.8, 'total_ips': 200.0, 'time': 1.0, 'latency_99': 0.2},
        'ema': {'loss': 4.0, 'top1': 0.3, 'top5': 0.7, 'total_ips': 300.0},
    }
    assert epoch_summary(results) == {
        'train.loss': 2.0,
        'train.top1': 0.5,
        'train.top5': 0.9,
        'train.ips': 100.0,
        'val.loss': 3.0,
        'val.accuracy': 0.4,
        'val.top_k_accuracy_5': 0.8,
        'ema.loss': 4.0,
        'ema.accuracy': 0.3,
        'ema.top_k_accuracy_5': 0.7,
        'val.ips': 200.0,
        'val.latency_99': 0.2,
    }


def test_run():
    """It has the best accuracy and loss, and the mean speed."""
    metrics = {
        'train.loss': [3.0, 1.0, 2.0],
        'train.total_ips': [10.0, 20.0, 60.0],
        'val.top1': [0.1, 0.3, 0.2],
        'val.latency_avg': [0.1, 0.2, 0.6],
        'train.lr': [1.0, 2.0, 3.0],
    }
    found = run_summary(metrics)
    assert {name: round(value, 9) for name, value in found.items()} == {
        'train.loss': 1.0,
        'train.ips': 30.0,
        'val.accuracy': 0.3,
        'val.latency_avg': 0.3,
    }


def test_every_metric_has_a_unit_for_programs():
    assert set(DLLOGGER_NAMES.values()) <= set(METRIC_UNITS)
