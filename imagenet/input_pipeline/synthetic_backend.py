"""The backend `synthetic`: images and labels generated from the seed alone.

Every step has the same images and labels, which shows how long a step takes if reading costs nothing.
"""

from contextlib import nullcontext

import numpy as np

from imagenet.datasets.decoding import RGB_CHANNELS
from imagenet.input_pipeline.batches import DeviceBatches, split_over_devices
from imagenet.input_pipeline.data_options import DataOptions
from imagenet.input_pipeline.sampling import check_training_steps, shard_size, validation_bounds, validation_steps
from imagenet.runtime.compat import mx
from imagenet.runtime.seeds import derive_seed

IMAGENET_VALIDATION_EXAMPLES = 50000
Options = DataOptions


def training_data(options, kv, devices, process_batch):
    """Return the training iterator."""
    num_examples = options.num_examples
    num_steps = check_training_steps(num_examples // options.batch_size, num_examples, options.batch_size)
    return _make(options, kv, devices, num_steps, process_batch, shard_size(num_examples, kv.size(), kv.rank()))


def validation_data(options, kv, devices, process_batch):
    """Return the validation iterator."""
    num_examples = min(options.num_examples, IMAGENET_VALIDATION_EXAMPLES)
    begin, end = validation_bounds(num_examples, kv, options.dali_separ_val)
    batch_size, num_steps = validation_steps(end - begin, process_batch, len(devices))
    return _make(options, kv, devices, num_steps, batch_size, end - begin, begin)


def _make(options, kv, devices, num_steps, batch_size, share, first_example=0):
    def open_epoch(_):
        return nullcontext(split_over_devices(_batches(options, kv, batch_size, share), devices, options.form))

    place = len(devices), share, None, first_example
    return DeviceBatches(open_epoch, num_steps, batch_size // len(devices), *place)


def _batches(options, kv, batch_size, share):
    random = np.random.RandomState(derive_seed(options.seed, kv.rank()))
    shape = (batch_size, RGB_CHANNELS, *options.image_shape[1:])
    images = mx.nd.array(random.standard_normal(shape).astype(np.float32))
    labels = mx.nd.array(random.randint(0, options.num_classes, size=batch_size))
    for counted in range(share, 0, -batch_size):
        yield mx.io.DataBatch(data=[images], label=[labels], pad=max(0, batch_size - counted))
