"""What all views of reports share: which metrics they show, in which order, and how numbers are written."""

from imagenet.reporting.report_file import PHASES

# (title, axis label, metrics drawn)
PANELS = (
    ('Loss', 'cross-entropy', ('train.loss', 'val.loss', 'ema.loss')),
    ('Accuracy', 'fraction of images', ('train.top1', 'val.top1', 'ema.top1', 'train.top5', 'val.top5', 'ema.top5')),
    ('Learning rate', 'learning rate at the end of the epoch', ('train.lr',)),
    ('Speed', 'images/s', ('train.total_ips', 'val.total_ips')),
)


def drawn(names, num_runs):
    """Return a panel's metrics that are drawn: without top-5 if there are several runs, as that adds too many lines."""
    return [name for name in names if num_runs == 1 or not name.endswith('.top5')]


def in_order(names):
    """Return metric names sorted by phase; within a phase, their order does not change."""
    return sorted(names, key=lambda name: (*PHASES, name.split('.')[0]).index(name.split('.')[0]))


def shown(value):
    return f'{value:.1f}' if 1000 <= value < 1e9 else f'{value:.5g}'


def columns_of(reports):
    """Return the metrics for a table, without latencies and times if the runs trained: images/s shows the same."""
    names = dict.fromkeys(name for report in reports for name in report['metrics'])
    has_training = any(name.startswith('train.') for name in names)
    return in_order(name for name in names if not (has_training and ('latency_' in name or name.endswith('.time'))))


def count_epochs(report):
    return max((len(values) for values in report['metrics'].values()), default=0)
