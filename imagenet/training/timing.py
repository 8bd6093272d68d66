"""Step latencies, and the share of communication in a step."""

import math
import queue
import threading
import time

from imagenet.common.errors import NonFiniteError
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx
from imagenet.training.metrics import Sums


class StepMeter:
    """A meter that counts and times steps as the devices finish them.

    A separate thread waits for the results, so that the training loop does not. A step's latency is the time since the
    end of the previous step.

    Args:
        options: `StepOptions`.
        progress: a `TrainingProgress` with what was already counted in this epoch.

    Attributes:
        sums: `Sums` of the finished steps; with `--no-metrics`, only their number of examples.
        latencies: seconds of each finished step.
        seconds: total time of these steps.
        iteration: number of finished steps in the epoch.
    """

    def __init__(self, options, progress_bar, progress):
        # The restored sums already cover all ranks, so only rank 0 starts from them.
        self.sums = Sums(*progress.sums) if distributed.rank() == 0 else Sums()
        self.latencies = list(progress.latencies)
        self.seconds = progress.seconds
        self.iteration = progress.iteration
        self._options = options
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
        # After an error or Ctrl-C, do not wait for the steps that were pushed.
        if error_type is None:
            self._thread.join()

    def count(self, results, examples):
        """Queue one step to be counted, without waiting for it.

        Args:
            results: each device's batch statistics, or with `--no-metrics` its losses `(N,)`.
            examples: number of examples on all of this process's devices.

        Raises:
            UserError, NonFiniteError, mxnet.base.MXNetError: an earlier step failed.
        """
        self._raise_error()
        self._queue.put((results, examples))

    def wait(self):
        """Return when every queued step is finished. Raise the same errors as `count`."""
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
            except Exception as error:  # the training loop raises it again
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
        loss = float(results.sum() if self._options.no_metrics else results[0])
        if not math.isfinite(loss):
            # Dynamic loss scaling handles this: it skips the step, which is not counted.
            if self._options.amp:
                return
            raise NonFiniteError(f'the loss is {loss} in epoch {self._epoch + 1}, iteration {self.iteration}')
        if self._options.no_metrics:
            self.sums.examples += examples
        else:
            self.sums.add(results, examples, self._options.num_classes)


class CommunicationTimer:
    """A timer for some of an epoch's updates: their total time, and the time of averaging gradients over processes.

    Usually the averaging overlaps with the backward pass and with other processes' work. In a timed update, everything
    before it finishes first, so that only communication is measured, including the wait for slower processes.

    Attributes:
        seconds: communication time, summed over the timed updates.
        update_seconds: total time of these updates, from ready batches to new parameters.
    """

    FIRST, INTERVAL = 1, 20

    def __init__(self, seconds=0.0, update_seconds=0.0):
        self.seconds = seconds
        self.update_seconds = update_seconds
        self._is_timing = False
        self._begin = None

    def begin(self, update_in_epoch):
        """Start an update; call this before its first batch."""
        self._is_timing = distributed.size() > 1 and update_in_epoch % self.INTERVAL == self.FIRST
        if self._is_timing:
            self._begin = self._now()

    def run(self, average_gradients):
        """Call a function that pushes the averaging, and time it if this update is timed."""
        if not self._is_timing:
            average_gradients()
            return
        start = self._now()
        average_gradients()
        self.seconds += self._now() - start

    def end(self):
        """End an update; call this after it."""
        if self._is_timing:
            self.update_seconds += self._now() - self._begin

    def _now(self):
        mx.nd.waitall()
        return time.perf_counter()

    def share(self):
        """Return communication's share of the update time, averaged over processes, or None if nothing was timed."""
        own = self.seconds / self.update_seconds if self.update_seconds else 0.0
        total, processes = distributed.allreduce_sum([own, self.update_seconds > 0])
        return total / processes if processes else None
