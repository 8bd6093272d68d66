"""The backend `synthetic`: images and labels made up from the seed."""

import numpy as np

from imagenet.common.modes import validates
from imagenet.common.options import pick
from imagenet.datasets.decoding import RGB_CHANNELS
from imagenet.input_pipeline.batches import DeviceBatches, split_over_devices
from imagenet.input_pipeline.sampling import check_training_steps, shard_size, validation_bounds, validation_steps
from imagenet.input_pipeline.transforms import InputForm
from imagenet.runtime.compat import mx
from imagenet.runtime.devices import local_devices
from imagenet.runtime.seeds import derive_seed

IMAGENET_VALIDATION_EXAMPLES = 50000


def synthetic_data_loader(args, kv):
    """Training and validation iterators over images and labels that follow from the seed alone.

    Every step has the same images and labels: what is left of a step when reading costs nothing.
    """
    devices = local_devices(args)
    process_batch = args.batch_size // kv.size()

    def make(num_steps, batch_size, share):
        def start_epoch(_):
            return split_over_devices(_synthetic_batches(args, kv, batch_size, share), devices, pick(InputForm, args))

        return DeviceBatches(start_epoch, num_steps, batch_size // len(devices), len(devices), share)

    train, val = None, None
    if 'train' in args.mode:
        num_steps = check_training_steps(args.num_examples // args.batch_size, args.num_examples, args.batch_size)
        train = make(num_steps, process_batch, shard_size(args.num_examples, kv.size(), kv.rank()))
    if validates(args):
        begin, end = validation_bounds(args, min(args.num_examples, IMAGENET_VALIDATION_EXAMPLES), kv)
        batch_size, num_steps = validation_steps(end - begin, process_batch, len(devices))
        val = make(num_steps, batch_size, end - begin)
    return train, val


def _synthetic_batches(args, kv, batch_size, share):
    random = np.random.RandomState(derive_seed(args.seed, kv.rank()))
    shape = (batch_size, RGB_CHANNELS, *args.image_shape[1:])
    images = mx.nd.array(random.standard_normal(shape).astype(np.float32))
    labels = mx.nd.array(random.randint(0, args.num_classes, size=batch_size))
    for counted in range(share, 0, -batch_size):
        yield mx.io.DataBatch(data=[images], label=[labels], pad=max(0, batch_size - counted))
