"""Reports for pages."""


def metrics_of(num_epochs):
    """Return the metrics of a run that trains and validates, and learns all the time."""
    epochs = range(1, num_epochs + 1)
    share = [epoch / num_epochs for epoch in epochs]
    metrics = {
        'train.loss': [1 + 1 / epoch for epoch in epochs],
        'train.top1': [0.5 * part for part in share],
        'train.top5': [0.8 * part for part in share],
        'train.total_ips': [1234.567] * num_epochs,
        'train.lr': [0.256 * (1 - part) for part in share],
        'val.loss': [1 + 1 / epoch for epoch in epochs],
        'val.top1': [0.6 * part for part in share],
        'val.top5': [0.9 * part for part in share],
        'val.total_ips': [5000.0] * num_epochs,
    }
    latencies = {f'{phase}.latency_{part}': [0.25] * num_epochs for phase in ('train', 'val') for part in ('avg', '99')}
    return {**metrics, **latencies}


def report_of(metrics, **changes):
    """Return the content of a report."""
    return {
        'version': 1,
        'model': 'resnetv15-18',
        'ngpus': 1,
        'total_duration': 75.0,
        'cmd': ['train.py', '--lr', '0.256', '--workspace', 'my runs'],
        'options': {'lr': 0.256, 'image_shape': [3, 224, 224], 'load': None},
        'environment': {'machine': 'a laptop', 'mxnet': '1.9.1'},
        'metrics': metrics,
        **changes,
    }
