"""Metrics: top-k accuracy, computed on a GPU or on the host; sums and latencies, on the host."""

from functools import partial

import numpy as np

from imagenet.common.errors import NonFiniteError, UserError
from imagenet.runtime import distributed
from imagenet.runtime.compat import as_numpy, mx, view_of
from imagenet.training.losses import make_cross_entropy


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


def make_scorer(num_classes, on_host):
    """Return a function that starts to compute what a validation batch adds to an epoch's sums.

    It takes logits `(N, num_classes)` and class indices `(N,)`, MXNet's arrays; on the host, logits may be NumPy's. It
    returns a function that waits for the four numbers of `make_batch_statistics`, with cross-entropy as the loss.

    Args:
        on_host: whether NumPy computes them. On a CPU, that takes 0.1 ms for a single image, and MXNet's operators 0.2
            to 1.5 ms.
    """
    if on_host:
        return lambda logits, labels: partial(score_on_host, logits, labels)
    cross_entropy, statistics = make_cross_entropy(), make_batch_statistics(num_classes)
    cross_entropy.hybridize()
    statistics.hybridize()
    return lambda logits, labels: statistics(cross_entropy(logits, labels), logits, labels).asnumpy


def score_on_host(logits, labels):
    """Return what `make_scorer` describes, float64 `(4,)`."""
    logits, labels = as_numpy(logits), view_of(labels).astype(np.int64)
    ranks, shifted = ranks_of_labels(logits, labels), logits - logits.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - label_logits(shifted, labels)
    return np.array([loss.sum(dtype=np.float64), (ranks == 1).sum(), (ranks <= TOP_K).sum(), labels.max()])


def ranks_of_labels(logits, labels):
    """Return the places of the right classes among all, the likeliest first, from 1; of equal ones, the lower first.

    Args:
        logits: an array `(N, num_classes)`.
        labels: class indices, int64 `(N,)`.
    """
    own = label_logits(logits, labels)[:, np.newaxis]
    is_lower = np.arange(logits.shape[1]) < labels[:, np.newaxis]
    return 1 + ((logits > own) | ((logits == own) & is_lower)).sum(axis=1)


def label_logits(logits, labels):
    # `Sums` refuses a label that the network has no class for.
    return logits[np.arange(len(labels)), np.minimum(labels, logits.shape[1] - 1)]


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
