"""The backends `dali-gpu` and `dali-cpu`: NVIDIA DALI decodes and augments images, and returns `DeviceBatches`.

This module reads the records and passes them to DALI, so that an epoch contains exactly the examples that `sampling.py`
assigns to this process, in that order. DALI's own record reader keeps a shuffle buffer whose state is lost with the
process, and does not report which record failed to decode.
"""

import tempfile
import warnings
from collections import deque
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass

import cv2
import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.options import MOST_THREADS, integer
from imagenet.common.parallel import map_in_order
from imagenet.datasets.codec_messages import captured_messages
from imagenet.datasets.decoding import RGB_CHANNELS, check_decodable, check_record_header, named_refusal, read_pixels
from imagenet.datasets.image_header import UPRIGHT
from imagenet.datasets.records import RecordFile, index_path
from imagenet.input_pipeline.auto_augment import AutoAugmentOptions, augment, needs_conditionals
from imagenet.input_pipeline.batches import DeviceBatches
from imagenet.input_pipeline.data_options import DataOptions
from imagenet.input_pipeline.interpolation import FILTERS
from imagenet.input_pipeline.sampling import (
    check_training_steps,
    repeated_order,
    training_order,
    validation_bounds,
    validation_steps,
)
from imagenet.runtime import cuda
from imagenet.runtime.compat import memory_of, mx
from imagenet.runtime.seeds import derive_seed
from imagenet.runtime.threads import available_cores, run_on_all_cores, threads_on_all_cores

# Default training crop.
RANDOM_CROP = {
    'min_random_area': 0.08,
    'max_random_area': 1.0,
    'min_random_aspect_ratio': 3 / 4,
    'max_random_aspect_ratio': 4 / 3,
}
MEBIBYTE = 1 << 20


def add_dali_args(parser):
    group = parser.add_argument_group('DALI data backend', 'Options of --data-backend dali-gpu and dali-cpu')
    group.add_argument(
        '--dali-separ-val', action='store_true', help='validate all images in each process, instead of its share only'
    )
    threads = 'or the number of its cores if that is less'
    group.add_argument(
        '--dali-threads', type=integer(1, MOST_THREADS), help=f'threads per process in training (default: 3, {threads})'
    )
    group.add_argument(
        '--dali-validation-threads',
        type=integer(1, MOST_THREADS),
        help=f'threads per process in validation (default: 10, {threads})',
    )
    group.add_argument(
        '--dali-prefetch-queue',
        type=integer(1, 100),
        default=2,
        help='batches to prepare in advance (default: %(default)s)',
    )
    group.add_argument(
        '--dali-fuse-decoder',
        type=int,
        choices=(0, 1),
        default=1,
        help='decode only the crop of a training image, instead of all of it (default: %(default)s)',
    )
    group.add_argument(
        '--dali-nvjpeg-memory-padding',
        type=integer(0, 65536),
        default=64,
        help='dali-gpu: memory in MiB that the decoder reserves on the host and on the GPU (default: %(default)s)',
    )
    group.add_argument(
        '--dali-nvjpeg-width-hint',
        type=integer(0, 65535),
        default=5980,
        help='dali-gpu: width of the largest image for which the decoder reserves memory (default: %(default)s)',
    )
    group.add_argument(
        '--dali-nvjpeg-height-hint',
        type=integer(0, 65535),
        default=6430,
        help='dali-gpu: height of this image (default: %(default)s)',
    )
    group.add_argument(
        '--dali-dont-use-mmap', action='store_true', help='read record files instead of mapping them into memory'
    )
    return group


@dataclass(frozen=True)
class Options(AutoAugmentOptions, DataOptions):
    """The options that `training_data` and `validation_data` need, under the same names."""

    data_backend: str
    dali_threads: int
    dali_validation_threads: int
    dali_prefetch_queue: int
    dali_fuse_decoder: int
    dali_nvjpeg_memory_padding: int
    dali_nvjpeg_width_hint: int
    dali_nvjpeg_height_hint: int
    dali_dont_use_mmap: bool
    repeated_augmentation: int
    random_mirror: int
    min_random_area: float
    max_random_area: float
    min_random_aspect_ratio: float
    max_random_aspect_ratio: float


def training_data(options, kv, devices, process_batch):
    """Return the training iterator over record files."""
    records = _open(options, options.data_train, options.data_train_idx)
    num_steps = check_training_steps(
        options.num_examples // options.batch_size, options.num_examples, options.batch_size
    )
    share = num_steps * process_batch

    def open_epoch(epoch):
        place = len(records), num_steps, process_batch, kv.size(), kv.rank(), options.seed, epoch
        repetitions = options.repeated_augmentation
        order = training_order(*place) if repetitions == 1 else repeated_order(*place, repetitions)
        seed = derive_seed(options.seed, epoch, kv.rank())
        return _run(options, records, order, share, devices, _training_images, _threads(options.dali_threads, 3), seed)

    return DeviceBatches(open_epoch, num_steps, process_batch // len(devices), len(devices), share, records)


def validation_data(options, kv, devices, process_batch):
    """Return the validation iterator over record files."""
    records = _open(options, options.data_val, options.data_val_idx)
    begin, end = validation_bounds(len(records), kv, options.dali_separ_val)
    share = end - begin
    batch_size, num_steps = validation_steps(share, process_batch, len(devices))
    # The last batch is padded with copies of the last example.
    order = np.minimum(np.arange(begin, begin + num_steps * batch_size), end - 1).reshape(num_steps, batch_size)

    def open_epoch(_):
        threads = _threads(options.dali_validation_threads, 10)
        return _run(options, records, order, share, devices, _validation_images, threads, seed=0)

    return DeviceBatches(open_epoch, num_steps, batch_size // len(devices), len(devices), share, records, begin)


def _open(options, record_path, idx_path):
    return RecordFile(record_path, index_path(record_path, idx_path), use_mmap=not options.dali_dont_use_mmap)


def _threads(chosen, default):
    return chosen or min(default, available_cores())


@contextmanager
def _run(options, records, order, num_counted, devices, make_images, num_threads, seed):
    """Run a pipeline per device in the block, which receives the iterator over their batches.

    Args:
        order: record numbers, of shape (steps, batch size of the process).
        num_counted: how many of the records count; the rest are padding.
        make_images: a function `(options, encoded)` that builds the images from encoded ones with DALI's operators.
    """
    feeds = [Feed(records, numbers, num_threads) for numbers in np.split(order, len(devices), axis=1)]
    with threads_on_all_cores():
        pipelines = [
            _build(options, feed, device, make_images, num_threads, derive_seed(seed, index))
            for index, (feed, device) in enumerate(zip(feeds, devices))
        ]
    try:
        with closing(_batches(options, records, order, num_counted, devices, feeds, pipelines)) as batches:
            yield batches
    finally:
        # This ends the pipelines' threads.
        del pipelines[:]


class Feed:
    """A source of one device's encoded images: reads them in order, batch by batch, and queues the labels.

    DALI ignores the EXIF orientation, so images that are not upright are decoded here and passed on as BMP.

    Args:
        order: record numbers, of shape (steps, batch size).
        num_threads: threads that decode such images.
    """

    def __init__(self, records, order, num_threads):
        self._records = records
        self._order = order
        self._num_threads = num_threads
        self.batch_size = order.shape[1]
        self.labels = deque()

    def __iter__(self):
        for step, numbers in enumerate(self._order):
            for following in self._order[step + 1 : step + 2]:
                self._records.expect(following)
            examples = [self._records.read(number) for number in numbers]
            self.labels.append(np.array([example.label for example in examples], dtype=np.float32))
            yield self._upright(numbers, [np.frombuffer(example.image, dtype=np.uint8) for example in examples])
            # By the time DALI requests the next batch, it has copied this one.
            self._records.release()

    def _upright(self, numbers, images):
        turned = [place for place, image in enumerate(images) if self._is_turned(numbers[place], image)]
        decoded = map_in_order(self._decode, numbers[turned], self._num_threads, initializer=run_on_all_cores)
        for place, image in zip(turned, decoded):
            images[place] = image
        return images

    def _is_turned(self, number, image):
        with named_refusal(self._records, number):
            return check_record_header(image).orientation not in (None, UPRIGHT)

    def _decode(self, number):
        pixels, _ = read_pixels(self._records, number)
        return cv2.imencode('.bmp', pixels)[1]


def _build(options, feed, device, make_images, num_threads, seed):
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(
        enable_conditionals=needs_conditionals(options),
        batch_size=feed.batch_size,
        num_threads=num_threads,
        device_id=None if options.device == 'cpu' else device.device_id,
        seed=seed,
        prefetch_queue_depth=options.dali_prefetch_queue,
    )
    def define():
        return make_images(options, fn.external_source(source=feed, cycle=None, batch=True, dtype=types.UINT8, ndim=1))

    # DALI 2 warns that its own augmentations use deprecated names of operators.
    with warnings.catch_warnings(record=True), _temporary_files_removed():
        pipeline = define()
    with _without_complaints(options.device):
        pipeline.build()
    return pipeline


@contextmanager
def _temporary_files_removed():
    """Remove the files of code that DALI generates for conditionals; it only does so itself if a run ends normally."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def _without_complaints(device):
    """Hide the errors that DALI 2 prints about each decoder that needs a GPU, if none is used."""
    has_dali_2 = cuda.version_of(cuda.DALI_2) is not None
    return captured_messages() if device == 'cpu' and has_dali_2 else nullcontext()


def _batches(options, records, order, num_counted, devices, feeds, pipelines):
    for step in range(len(order)):
        # DALI reports an error as soon as it occurs, possibly several batches ahead of this one.
        in_work = order[step : step + options.dali_prefetch_queue + 1].ravel()
        counted = num_counted - step * order.shape[1]
        per_device = []
        for index, (device, feed, pipeline) in enumerate(zip(devices, feeds, pipelines)):
            with _explained_errors(records, in_work):
                (images,) = pipeline.run()
            data = _to_mxnet(images.as_tensor(), device, options.dtype)
            label = mx.nd.array(feed.labels.popleft(), ctx=device)
            pad = min(feed.batch_size, max(0, (index + 1) * feed.batch_size - counted))
            per_device.append(mx.io.DataBatch(data=[data], label=[label], pad=pad))
        yield per_device


def _to_mxnet(tensor, device, dtype):
    """Copy DALI's tensor to an MXNet array on the same device. DALI writes it, without MXNet's engine."""
    # Pooled memory of a GPU may still be in use. It is free once the engine has written to it.
    allocate = mx.nd.empty if device.device_type == 'cpu' else mx.nd.zeros
    array = allocate(tensor.shape(), ctx=device, dtype=dtype)
    array.wait_to_read()
    tensor.copy_to_external(memory_of(array))
    return array


@contextmanager
def _explained_errors(records, numbers):
    """If a pipeline fails because of a record that does not decode, raise `UserError` that names it."""
    try:
        yield
    except RuntimeError as error:
        check_decodable(records, numbers, available_cores())
        if 'decoder' in str(error):
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f'{records.path}: DALI cannot decode one of {len(numbers)} records ({reason})') from None
        raise


def _training_images(options, encoded):
    from nvidia.dali import fn, types

    crop = {
        'random_area': (options.min_random_area, options.max_random_area),
        'random_aspect_ratio': (options.min_random_aspect_ratio, options.max_random_aspect_ratio),
    }
    size = options.image_shape[1:]
    decoder = {'output_type': types.RGB, **decoder_settings(options)}
    if options.dali_fuse_decoder:
        images = fn.decoders.image_random_crop(encoded, **decoder, **crop)
        images = fn.resize(images, size=size, **_interpolation(options))
    else:
        images = fn.decoders.image(encoded, **decoder)
        images = fn.random_resized_crop(images, size=size, **_interpolation(options), **crop)
    images = augment(images, options, *size)
    mirror = fn.random.coin_flip(probability=0.5) if options.random_mirror else 0
    return _normalize(options, images, mirror=mirror)


def _validation_images(options, encoded):
    from nvidia.dali import fn, types

    # The same pixels as `transforms.evaluation_transform`: sizes are rounded down.
    height_and_width = fn.slice(fn.peek_image_shape(encoded, dtype=types.INT32), 0, 2, axes=[0])
    size = options.data_val_resize * height_and_width // fn.reductions.min(height_and_width)
    images = fn.decoders.image(encoded, output_type=types.RGB, **decoder_settings(options))
    images = fn.resize(images, size=fn.cast(size, dtype=types.FLOAT), **_interpolation(options))
    return _normalize(options, images, crop=options.image_shape[1:], rounding='truncate')


def _interpolation(options):
    """Return the filter of the operators that resize."""
    from nvidia.dali import types

    method = FILTERS[options.interpolation]
    return {'interp_type': getattr(types, method.dali), 'antialias': method.is_antialiased}


def decoder_settings(options):
    """Return the decoder's device, and the memory that nvJPEG reserves for it."""
    if options.data_backend == 'dali-cpu':
        return {'device': 'cpu'}
    padding = options.dali_nvjpeg_memory_padding * MEBIBYTE
    return {
        'device': 'mixed',
        'host_memory_padding': padding,
        'device_memory_padding': padding,
        'preallocate_width_hint': options.dali_nvjpeg_width_hint,
        'preallocate_height_hint': options.dali_nvjpeg_height_hint,
    }


def _normalize(options, images, **crop_or_mirror):
    """Convert decoded images to the network's input, on the device that runs the network."""
    from nvidia.dali import fn, types

    if options.device == 'gpu' and options.data_backend == 'dali-cpu':
        images = images.gpu()
    return fn.crop_mirror_normalize(
        images,
        dtype=types.FLOAT16 if options.dtype == 'float16' else types.FLOAT,
        output_layout='CHW' if options.input_layout == 'NCHW' else 'HWC',
        mean=list(options.rgb_mean),
        std=list(options.rgb_std),
        pad_output=options.image_shape[0] > RGB_CHANNELS,
        **crop_or_mirror,
    )
