"""Counting: top-k accuracy on the device, sums and latencies on the host."""

import queue
import threading
import time

import numpy as np

from compat import mx
from errors import UserError

TOP_K = 5
LATENCY_PERCENTILES = (50, 90, 95, 99, 100)


class BatchStatistics(mx.gluon.HybridBlock):
    """What a batch adds to an epoch's sums.

    Inputs: per-example loss `(N,)`, logits `(N, num_classes)`, class indices `(N,)`. Output: float32 `(4,)`: the sum of
    the losses, the number of examples whose class is the likeliest, the number whose class is among the five likeliest,
    and the largest class index, which tells labels that the network has no class for.
    """

    def __init__(self, num_classes):
        super().__init__()
        self._top_k = min(TOP_K, num_classes)

    def hybrid_forward(self, F, loss, logits, labels):
        likeliest = F.topk(logits, k=self._top_k, axis=1)
        is_correct = F.broadcast_equal(likeliest, labels.reshape((-1, 1)))
        top1 = F.slice_axis(is_correct, axis=1, begin=0, end=1).sum()
        return F.concat(loss.sum(), top1, is_correct.sum(), labels.max(), dim=0)


class Sums:
    """An epoch's sums on this process, kept in Python's float64; `values()` is what processes add up."""

    def __init__(self):
        self.loss = 0.0
        self.top1 = 0.0
        self.top5 = 0.0
        self.examples = 0

    def add(self, statistics, examples, num_classes):
        """Adds one batch's `BatchStatistics`, given as host numbers.

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


class StepMeter:
    """Counts and times steps as the devices finish them.

    A thread of its own waits for the results, so that the training loop does not. A step's latency is the time from the
    end of the step before it.

    Attributes:
        sums: `Sums` of the steps that are done.
        latencies: seconds of each of them.
        seconds: time from the start to the end of the last of them.
    """

    def __init__(self, num_classes, progress_bar):
        self.sums = Sums()
        self.latencies = []
        self.seconds = 0.0
        self._num_classes = num_classes
        self._progress_bar = progress_bar
        self._error = None
        self._queue = queue.Queue()
        self._start = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, name='step meter', daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, error_type, *_):
        self._queue.put(None)
        # After an error or Ctrl-C nobody waits for what was pushed.
        if error_type is None:
            self._thread.join()

    def count(self, statistics, examples):
        """Hands over one step: each device's `BatchStatistics`, and the examples of all of them. Does not wait.

        Raises:
            UserError, mxnet.base.MXNetError: an earlier step failed.
        """
        self._raise_error()
        self._queue.put((statistics, examples))

    def wait(self):
        """Returns when every step handed over is done; raises as `count` does."""
        self._queue.join()
        self._raise_error()

    def _raise_error(self):
        if self._error is not None:
            raise self._error

    def _watch(self):
        for statistics, examples in iter(self._queue.get, None):
            try:
                if self._error is None:
                    self._add(statistics, examples)
            except Exception as error:  # whatever it is belongs to the training loop, which raises it
                self._error = error
            finally:
                self._queue.task_done()

    def _add(self, statistics, examples):
        on_host = [array.asnumpy() for array in statistics]
        now = time.perf_counter() - self._start
        self.latencies.append(now - self.seconds)
        self.seconds = now
        for device_statistics in on_host:
            self.sums.add(device_statistics, examples // len(on_host), self._num_classes)
        self._progress_bar.update()


def means(total):
    """Per-example means from summed `Sums.values()`: loss, and top-1 and top-5 as fractions."""
    loss, top1, top5, examples = (float(value) for value in total)
    return {'loss': loss / examples, 'top1': top1 / examples, 'top5': top5 / examples}


def latency_summary(latencies):
    """Mean and percentiles of seconds per batch, under the names of the report; nothing for no batch."""
    if not latencies:
        return {}
    summary = {'latency_avg': float(np.mean(latencies))}
    for percentile in LATENCY_PERCENTILES:
        summary[f'latency_{percentile}'] = float(np.percentile(latencies, percentile))
    return summary
