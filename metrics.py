"""Counting: top-k accuracy on the device, sums and latencies on the host."""

import math
import queue
import threading
import time

import numpy as np

import distributed
from compat import mx
from errors import NonFiniteError, UserError

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

    def __init__(self, loss=0.0, top1=0.0, top5=0.0, examples=0):
        self.loss = loss
        self.top1 = top1
        self.top5 = top5
        self.examples = examples

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

    Args:
        args: options with `num_classes`, `no_metrics` and `amp`.
        progress: a `resume.Progress`: what was counted of this epoch before.

    Attributes:
        sums: `Sums` of the steps that are done; with `--no-metrics`, of their number of examples alone.
        latencies: seconds of each of them.
        seconds: time that they took together.
        iteration: steps of the epoch that are done.
    """

    def __init__(self, args, progress_bar, progress):
        # They are of all processes together, and will be added up over these.
        self.sums = Sums(*progress.sums) if distributed.rank() == 0 else Sums()
        self.latencies = list(progress.latencies)
        self.seconds = progress.seconds
        self.iteration = progress.iteration
        self._args = args
        self._epoch = progress.epoch
        self._progress_bar = progress_bar
        self._error = None
        self._queue = queue.Queue()
        self._start = time.perf_counter() - progress.seconds
        self._thread = threading.Thread(target=self._watch, name='step meter', daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, error_type, *_):
        self._queue.put(None)
        # After an error or Ctrl-C nobody waits for what was pushed.
        if error_type is None:
            self._thread.join()

    def count(self, results, examples):
        """Hands over one step and the examples of all devices; does not wait.

        Args:
            results: each device's `BatchStatistics`, or with `--no-metrics` its losses `(N,)`.

        Raises:
            UserError, NonFiniteError, mxnet.base.MXNetError: an earlier step failed.
        """
        self._raise_error()
        self._queue.put((results, examples))

    def wait(self):
        """Returns when every step handed over is done; raises as `count` does."""
        self._queue.join()
        self._raise_error()

    def _raise_error(self):
        if self._error is not None:
            raise self._error

    def _watch(self):
        for results, examples in iter(self._queue.get, None):
            try:
                if self._error is None:
                    self._add(results, examples)
            except Exception as error:  # whatever it is belongs to the training loop, which raises it
                self._error = error
            finally:
                self._queue.task_done()

    def _add(self, results, examples):
        on_host = [array.asnumpy() for array in results]
        now = time.perf_counter() - self._start
        self.latencies.append(now - self.seconds)
        self.seconds = now
        self.iteration += 1
        for device_results in on_host:
            self._add_of_device(device_results, examples // len(on_host))
        self._progress_bar.update()

    def _add_of_device(self, results, examples):
        loss = float(results.sum() if self._args.no_metrics else results[0])
        if not math.isfinite(loss):
            # With loss scaling, that is for it to see to; such a step is skipped, and not counted.
            if self._args.amp:
                return
            raise NonFiniteError(f'the loss is {loss} in epoch {self._epoch + 1}, iteration {self.iteration}')
        if self._args.no_metrics:
            self.sums.examples += examples
        else:
            self.sums.add(results, examples, self._args.num_classes)


class CommunicationTimer:
    """Times the averaging of gradients over processes in some of an epoch's updates, and these updates as a whole.

    Usually it overlaps with the backward pass and with other processes' work. In a timed update everything before it is
    done first, so that what is measured is the time of communication alone, waiting for slower processes included.

    Attributes:
        seconds: of communication in the timed updates together.
        update_seconds: of these updates, from batches that are there to new parameters.
    """

    FIRST, INTERVAL = 1, 20

    def __init__(self, seconds=0.0, update_seconds=0.0):
        self.seconds = seconds
        self.update_seconds = update_seconds
        self._is_timing = False
        self._begin = None

    def begin(self, update_in_epoch):
        """To be called before an update's first batch."""
        self._is_timing = distributed.size() > 1 and update_in_epoch % self.INTERVAL == self.FIRST
        if self._is_timing:
            self._begin = self._now()

    def run(self, average_gradients):
        """Calls a function that pushes the averaging."""
        if not self._is_timing:
            average_gradients()
            return
        start = self._now()
        average_gradients()
        self.seconds += self._now() - start

    def end(self):
        """To be called after the update."""
        if self._is_timing:
            self.update_seconds += self._now() - self._begin

    def _now(self):
        mx.nd.waitall()
        return time.perf_counter()

    def share(self):
        """Communication's part of an update's time, the mean over processes; None where nothing was timed."""
        own = self.seconds / self.update_seconds if self.update_seconds else 0.0
        total, processes = distributed.allreduce_sum([own, self.update_seconds > 0])
        return total / processes if processes else None


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
