"""`DeviceBatches`, which every data backend returns: the batches of an epoch, one per step and local device."""

import itertools
from contextlib import ExitStack

from imagenet.input_pipeline.transforms import as_network_input
from imagenet.runtime.compat import mx


class DeviceBatches:
    """An iterator over an epoch: each step is a list with one `mx.io.DataBatch` per local device.

    A batch has `.data[0]`, images in the network's input form; `.label[0]`, class indices (float32, shape `(batch,)`);
    and `.pad`, the number of examples at its end that do not count.

    It holds readers and threads of MXNet and DALI, which must end before the interpreter does. A `with` block, or
    `close()`, ends them.

    Args:
        open_epoch: a function that takes the epoch and returns a context manager. The block receives an iterator over
            such lists; at its end, everything that reads the epoch is closed.
        num_steps: steps in an epoch, also returned by `len()`.
        batch_size: examples per step and device.
        num_devices: local devices.
        num_examples: examples in this process's share of the data set.
        records: the `RecordFile` to close at the end, or None.
        first_example: in validation, the number of this process's first example. Its examples come in order: those of
            a step are those of its first device, then those of its second one, and so on.
    """

    def __init__(self, open_epoch, num_steps, batch_size, num_devices, num_examples, records=None, first_example=0):
        self._open_epoch = open_epoch
        self._num_steps = num_steps
        self._steps = iter(())
        self._epoch = ExitStack()
        self._records = records
        self.batch_size = batch_size
        self.num_devices = num_devices
        self.num_examples = num_examples
        self.first_example = first_example

    def __len__(self):
        return self._num_steps

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._steps = iter(())
        try:
            # With the error, after which no reader waits for batches that nobody needs.
            self._epoch.__exit__(*error)
        finally:
            if self._records is not None:
                self._records.close()

    def close(self):
        """End the epoch and close everything; nothing can be read afterwards."""
        self.__exit__(None, None, None)

    def reset(self, epoch, first_step=0):
        """Start an epoch, whose order and augmentation depend only on the seed, the epoch and the rank.

        Args:
            first_step: number of steps to skip. They are read nevertheless, because each random draw depends on the
                draws before it.
        """
        self._steps = iter(())
        self._epoch.close()
        # If a process's share is empty, there is nothing to read, and no reader can be created.
        if self._num_steps:
            batches = self._epoch.enter_context(self._open_epoch(epoch))
            self._steps = itertools.islice(batches, first_step, self._num_steps)

    def __iter__(self):
        return self._steps


class StagedBatches:
    """The training iterators of a run's stages, whose images and batches differ in size; one at a time is open.

    Args:
        open_stage: a function that takes a stage and returns its `DeviceBatches`.
    """

    def __init__(self, open_stage):
        self._open_stage = open_stage
        self._stage = self._batches = None
        self._stack = ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.__exit__(*error)

    def of(self, stage):
        """Return the `DeviceBatches` of a stage; those of another stage are closed first."""
        if stage is not self._stage:
            self._stage = None
            self._stack.close()
            self._batches = self._stack.enter_context(self._open_stage(stage))
            self._stage = stage
        return self._batches


def split_over_devices(batches, devices, form):
    """Split a process's batches, images `(N, 3, H, W)`, into equal batches for its devices."""
    for batch in batches:
        process_batch = len(batch.label[0])
        batch_size = process_batch // len(devices)
        counted = process_batch - batch.pad
        per_device = []
        for index, device in enumerate(devices):
            begin, end = index * batch_size, (index + 1) * batch_size
            part = mx.io.DataBatch(
                data=[as_network_input(batch.data[0][begin:end].as_in_context(device), form)],
                label=[batch.label[0][begin:end].as_in_context(device)],
                pad=min(batch_size, max(0, end - counted)),
            )
            per_device.append(part)
        yield per_device
