"""Batch norm's running statistics of each process and device, which differ within an epoch.

At the end of an epoch they are averaged. A run that stops before that keeps each of them: with their average instead,
the rest of the epoch would be the same only up to rounding.
"""

import numpy as np

from imagenet.checkpoints.parameters import read_arrays
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx

# The name of the part of a checkpoint, and of the only array in its file.
PART = 'statistics'


def gather_statistics(step):
    """Return the part of a checkpoint, a float32 array `(processes, values)` by its name; all processes call this.

    It is empty if there is only one process with one device: the parameters contain its statistics.
    """
    num_devices = max((len(param.list_ctx()) for param in step.running), default=0)
    if num_devices * distributed.size() <= 1:
        return {}
    values = np.concatenate([array.asnumpy().ravel() for array in _own_arrays(step)])
    return {PART: mx.nd.array(distributed.gather(values), dtype='float32')}


def restore_statistics(step, files):
    """Set the running statistics of this process to those that a checkpoint has, if it has them for as many processes.

    Args:
        files: the files of the parts on rank 0, by name; None on other ranks.
    """
    file = (files or {}).get(PART)
    found = None if file is None else read_arrays(file, f'{file}: a part of a checkpoint').get(PART)
    shape = distributed.broadcast_json(None if found is None else found.shape)
    arrays = _own_arrays(step)
    if shape is None or tuple(shape) != (distributed.size(), sum(array.size for array in arrays)):
        return
    everything = {PART: mx.nd.zeros(shape) if found is None else found}
    distributed.broadcast(everything)
    row, begin = everything[PART][distributed.rank()], 0
    for array in arrays:
        row[begin : begin + array.size].reshape(array.shape).astype(array.dtype).copyto(array)
        begin += array.size


def _own_arrays(step):
    """Return this process's running statistics on each device, and their moving averages, in a fixed order."""
    on_devices = [array for param in step.running for array in param.list_data()]
    if step.average is None:
        return on_devices
    return on_devices + [step.average.arrays[param.name] for param in step.running]
