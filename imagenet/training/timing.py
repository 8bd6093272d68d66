"""Latencies of steps, and the share of communication in them."""

import math
import queue
import threading
import time

from imagenet.common.errors import NonFiniteError
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx
from imagenet.training.metrics import Sums


class StepMeter:
    """Counts and times steps as the devices finish them.

    A thread of its own waits for the results, so that the training loop does not. A step's latency is the time from the
    end of the step before it.

    Args:
        options: `StepOptions`.
        progress: a `TrainingProgress`: what was counted of this epoch before.

    Attributes:
        sums: `Sums` of the steps that are done; with `--no-metrics`, of their number of examples alone.
        latencies: seconds of each of them.
        seconds: time that they took together.
        iteration: steps of the epoch that are done.
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
        # After an error or Ctrl-C nobody waits for what was pushed.
        if error_type is None:
            self._thread.join()

    def count(self, results, examples):
        """Hands over one step and the examples of all devices; does not wait.

        Args:
            results: each device's batch statistics, or with `--no-metrics` its losses `(N,)`.

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
        loss = float(results.sum() if self._options.no_metrics else results[0])
        if not math.isfinite(loss):
            # With loss scaling, that is for it to see to; such a step is skipped, and not counted.
            if self._options.amp:
                return
            raise NonFiniteError(f'the loss is {loss} in epoch {self._epoch + 1}, iteration {self.iteration}')
        if self._options.no_metrics:
            self.sums.examples += examples
        else:
            self.sums.add(results, examples, self._options.num_classes)


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
        """Communication's part of an update's time, the mean over processes; None if nothing was timed."""
        own = self.seconds / self.update_seconds if self.update_seconds else 0.0
        total, processes = distributed.allreduce_sum([own, self.update_seconds > 0])
        return total / processes if processes else None
