"""Metrics: top-k accuracy, computed on the device; sums and latencies, on the host."""

import numpy as np

from imagenet.common.errors import NonFiniteError, UserError
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx


def epoch_metrics(sums, latencies, seconds, has_metrics=True):
    """Return one epoch's metrics over all processes, under the names of the report.

    Args:
        sums: this process's `Sums`.
        latencies: seconds of each of this process's steps.
        seconds: the epoch's time.
        has_metrics: whether the sums hold more than the number of examples.

    Raises:
        NonFiniteError: no step was counted, because dynamic loss scaling has skipped all of them.
    """
    total = distributed.allreduce_sum(sums.values())
    if total[-1] == 0:
        raise NonFiniteError('the gradients overflowed in every step of the epoch')
    measured = means(total) if has_metrics else {}
    return {**measured, 'total_ips': total[-1] / seconds, **latency_summary(latencies)}


TOP_K = 5
LATENCY_PERCENTILES = (50, 90, 95, 99, 100)


def make_batch_statistics(num_classes):
    """Return a block that computes what a batch adds to an epoch's sums.

    Its inputs are the loss per example `(N,)`, logits `(N, num_classes)` and class indices `(N,)`. Its output is
    float32 `(4,)`: the sum of the losses, the number of top-1 hits, the number of top-5 hits, and the largest class
    index, which reveals a label that the network has no class for.
    """
    top_k = min(TOP_K, num_classes)

    def statistics(F, loss, logits, labels):
        likeliest = F.topk(logits, k=top_k, axis=1)
        is_correct = F.broadcast_equal(likeliest, labels.reshape((-1, 1)))
        top1 = F.slice_axis(is_correct, axis=1, begin=0, end=1).sum()
        return F.concat(loss.sum(), top1, is_correct.sum(), labels.max(), dim=0)

    return mx.gluon.nn.HybridLambda(statistics)


class Sums:
    """An epoch's sums on this process, in Python's float64. `values()` returns the numbers that processes add up."""

    def __init__(self, loss=0.0, top1=0.0, top5=0.0, examples=0):
        self.loss = loss
        self.top1 = top1
        self.top5 = top5
        self.examples = examples

    def add(self, statistics, examples, num_classes):
        """Add one batch's statistics, given as host numbers.

        Raises:
            UserError: the batch has a label that the network has no class for.
        """
        loss, top1, top5, largest_label = (float(value) for value in statistics)
        if largest_label >= num_classes:
            raise UserError(
                f'a record has label {largest_label:g}; --num-classes {num_classes} allows 0 to {num_classes - 1}'
            )
        self.loss += loss
        self.top1 += top1
        self.top5 += top5
        self.examples += examples

    def values(self):
        return [self.loss, self.top1, self.top5, self.examples]


def means(total):
    """Return the means per example from summed `Sums.values()`: loss, and top-1 and top-5 as fractions."""
    loss, top1, top5, examples = (float(value) for value in total)
    return {'loss': loss / examples, 'top1': top1 / examples, 'top5': top5 / examples}


def latency_summary(latencies):
    """Return mean and percentiles of seconds per batch, under the names of the report; empty if there is no batch."""
    if not latencies:
        return {}
    summary = {'latency_avg': float(np.mean(latencies))}
    for percentile in LATENCY_PERCENTILES:
        summary[f'latency_{percentile}'] = float(np.percentile(latencies, percentile))
    return summary
