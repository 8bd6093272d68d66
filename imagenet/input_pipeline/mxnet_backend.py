"""The backend `mxnet`: training images from `mx.io.ImageRecordIter`, validation images through OpenCV and Pillow.

`ImageRecordIter` is unsuitable for validation: it ends the process if an image does not decode (it divides by the
width of an empty image), and pads the last batch with examples from the start. Validation therefore has a separate
reader, which crops images exactly as `--mode pred` does.
"""

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.options import LARGEST_SIDE, MOST_THREADS, integer, number, option_name
from imagenet.datasets.decoding import RGB_CHANNELS, check_decodable, check_headers, read_pixels
from imagenet.datasets.records import RecordFile, index_path
from imagenet.input_pipeline.batches import DeviceBatches, split_over_devices
from imagenet.input_pipeline.data_options import DataOptions
from imagenet.input_pipeline.sampling import (
    check_training_steps,
    shard_bounds,
    shard_size,
    validation_bounds,
    validation_steps,
)
from imagenet.input_pipeline.transforms import evaluation_transform
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx
from imagenet.runtime.seeds import derive_seed
from imagenet.runtime.threads import available_cores, run_on_all_cores, threads_on_all_cores

# Default training crop.
RANDOM_CROP = {
    'min_random_area': 0.05,
    'max_random_area': 1.0,
    'min_random_aspect_ratio': 3 / 4,
    'max_random_aspect_ratio': 1.33,
}
# Number of batches decoded ahead of the current one.
BATCHES_AHEAD = 2
# Options and their names in ImageRecordIter; the options in `RANDOM_CROP` are shared with DALI.
ITERATOR_SETTINGS = {
    'random_crop': 'rand_crop',
    'random_resized_crop': 'random_resized_crop',
    'min_random_area': 'min_random_area',
    'max_random_area': 'max_random_area',
    'min_random_aspect_ratio': 'min_aspect_ratio',
    'max_random_aspect_ratio': 'max_aspect_ratio',
    'random_mirror': 'rand_mirror',
    'max_random_h': 'random_h',
    'max_random_s': 'random_s',
    'max_random_l': 'random_l',
    'max_random_rotate_angle': 'max_rotate_angle',
    'max_random_shear_ratio': 'max_shear_ratio',
    'max_random_scale': 'max_random_scale',
    'min_random_scale': 'min_random_scale',
    'max_crop_size': 'max_crop_size',
    'min_crop_size': 'min_crop_size',
    'brightness': 'brightness',
    'contrast': 'contrast',
    'saturation': 'saturation',
    'pca_noise': 'pca_noise',
}


def add_mxnet_data_args(parser):
    group = parser.add_argument_group('MXNet data backend', 'Further options of --data-backend mxnet')
    group.add_argument(
        '--data-mxnet-threads',
        type=integer(1, MOST_THREADS),
        help="decoding threads (default: this process's share of the cores)",
    )

    def add(name, kind, text, **settings):
        default = getattr(Augmentation, name.lstrip('-').replace('-', '_'))
        group.add_argument(name, type=kind, default=default, help=f'{text} (default: %(default)s)', **settings)

    share, scale, side = number(at_least=0, at_most=100), number(at_least=0.01, at_most=100), integer(-1, LARGEST_SIDE)
    add('--random-resized-crop', int, 'resize a random crop to the image shape', choices=(0, 1))
    without = 'without --random-resized-crop: '
    add('--random-crop', int, without + 'crop at a random position instead of the center', choices=(0, 1))
    add('--min-random-scale', scale, without + 'smallest scale factor before the crop')
    add('--max-random-scale', scale, without + 'largest scale factor before the crop')
    add('--min-crop-size', side, without + 'smallest side of a square crop; -1: the image shape')
    add('--max-crop-size', side, without + 'largest side of a square crop; -1: the image shape')
    add('--max-random-rotate-angle', integer(0, 180), 'rotate by up to this many degrees in either direction')
    add('--max-random-shear-ratio', share, 'shear by up to this ratio in either direction')
    add('--max-random-h', integer(0, 180), 'shift the hue up or down by at most this value, of 180')
    add('--max-random-s', integer(0, 255), 'shift the saturation up or down by at most this value, of 255')
    add('--max-random-l', integer(0, 255), 'shift the lightness up or down by at most this value, of 255')
    add('--brightness', share, 'scale the brightness up or down by at most this fraction')
    add('--contrast', share, 'scale the contrast up or down by at most this fraction')
    add('--saturation', share, 'scale the saturation up or down by at most this fraction')
    add('--pca-noise', share, 'standard deviation of the noise along the principal components of color')
    return group


@dataclass(frozen=True)
class Augmentation:
    """The augmentation options that only this backend has, under the same names.

    Raises:
        UserError: the options contradict each other.
    """

    random_resized_crop: int = 1
    random_crop: int = 0
    min_random_scale: float = 1
    max_random_scale: float = 1
    min_crop_size: int = -1
    max_crop_size: int = -1
    max_random_rotate_angle: int = 0
    max_random_shear_ratio: float = 0
    max_random_h: int = 0
    max_random_s: int = 0
    max_random_l: int = 0
    brightness: float = 0
    contrast: float = 0
    saturation: float = 0
    pca_noise: float = 0

    def __post_init__(self):
        for name in ('random-scale', 'crop-size'):
            low, high = (getattr(self, f'{end}_{name.replace("-", "_")}') for end in ('min', 'max'))
            if (low, high) != (-1, -1) and not 0 < low <= high:
                raise UserError(f'--min-{name} {low:g} --max-{name} {high:g}: must be 0 < min <= max')
        names = ('random_crop', 'min_random_scale', 'max_random_scale', 'min_crop_size', 'max_crop_size')
        chosen = [option_name(name) for name in names if getattr(self, name) != getattr(Augmentation, name)]
        if self.random_resized_crop and chosen:
            raise UserError(f'{" ".join(chosen)}: add --random-resized-crop 0')


@dataclass(frozen=True)
class Options(Augmentation, DataOptions):
    """The options that `training_data` and `validation_data` need."""

    random_mirror: int = 1
    min_random_area: float = RANDOM_CROP['min_random_area']
    max_random_area: float = RANDOM_CROP['max_random_area']
    min_random_aspect_ratio: float = RANDOM_CROP['min_random_aspect_ratio']
    max_random_aspect_ratio: float = RANDOM_CROP['max_random_aspect_ratio']
    data_mxnet_threads: int = None


def check_unused(augmentation, backend):
    """Raise `UserError` if an option of this backend is used with another backend."""
    for field in fields(Augmentation):
        value = getattr(augmentation, field.name)
        if value != field.default:
            raise UserError(
                f'{option_name(field.name)} {value:g}: --data-backend {backend} cannot do that; '
                'use --data-backend mxnet'
            )


def decoding_threads(options):
    return options.data_mxnet_threads or available_cores()


def training_data(options, kv, devices, process_batch):
    """Return the training iterator over record files."""
    num_steps, num_readers = _plan_readers(options, kv, process_batch)
    num_parts = kv.size() * num_readers
    parts = range(kv.rank() * num_readers, (kv.rank() + 1) * num_readers)

    @lru_cache(maxsize=None)
    def check_once():
        # `ImageRecordIter` ends the process at a damaged record, and decodes what other readers refuse.
        check_headers(*_own_records(options, kv), decoding_threads(options))

    @contextmanager
    def open_epoch(epoch):
        check_once()
        with _explained_errors(options, kv), threads_on_all_cores():
            readers = [
                _image_record_iter(options, process_batch, num_readers, num_parts, part, epoch) for part in parts
            ]
        try:
            with closing(_read_training(options, kv, readers)) as batches:
                yield split_over_devices(batches, devices, options.form)
            # Not after an error: the reader may wait for steps that use its batches.
            for reader in readers:
                _empty(reader)
        finally:
            # This frees the readers. At the end of the interpreter, MXNet's engine would be gone.
            del readers[:]

    share = shard_size(options.num_examples, kv.size(), kv.rank())
    return DeviceBatches(open_epoch, num_steps, process_batch // len(devices), len(devices), share)


def _plan_readers(options, kv, process_batch):
    """Return the number of steps of an epoch, and the number of `ImageRecordIter` instances per process.

    One `ImageRecordIter` uses at most half of the machine's cores. Several keep all threads busy: each reads a part of
    the records and fills a part of every batch. The parts must be large enough that they fill as many batches as a
    single reader would.
    """

    def count_steps(num_readers):
        num_parts = kv.size() * num_readers
        return shard_size(options.num_examples, num_parts, num_parts - 1) // (process_batch // num_readers)

    num_steps = check_training_steps(count_steps(1), options.num_examples, options.batch_size)
    threads_per_reader = max(1, available_cores() // 2 - 1)
    wanted = math.ceil(decoding_threads(options) / threads_per_reader)
    possible = (n for n in range(1, wanted + 1) if process_batch % n == 0 and count_steps(n) == num_steps)
    return num_steps, max(possible)


def _image_record_iter(options, process_batch, num_readers, num_parts, part, epoch):
    settings = {theirs: getattr(options, ours) for ours, theirs in ITERATOR_SETTINGS.items()}
    settings.update(zip(('mean_r', 'mean_g', 'mean_b'), options.rgb_mean))
    settings.update(zip(('std_r', 'std_g', 'std_b'), options.rgb_std))
    return mx.io.ImageRecordIter(
        path_imgrec=str(options.data_train),
        path_imgidx=str(index_path(options.data_train, options.data_train_idx)),
        data_shape=(RGB_CHANNELS, *options.image_shape[1:]),
        batch_size=process_batch // num_readers,
        preprocess_threads=math.ceil(decoding_threads(options) / num_readers),
        # Batches left in the queue of a reader when it ends are never freed; see `_empty`.
        prefetch_buffer=1,
        num_parts=num_parts,
        part_index=part,
        shuffle=True,
        # `seed` also determines the augmentation, through the order: it is drawn image by image from a generator that
        # starts in the same state in every iterator. (`seed_aug` would restart the generator at every batch, and so
        # repeat the crops of the first batch.)
        seed=derive_seed(options.seed, epoch, part),
        # Pageable memory on a CPU; page-locked memory for copies to a GPU.
        device_id=-1 if options.device == 'cpu' else distributed.local_rank(),
        verbose=False,
        **settings,
    )


def _read_training(options, kv, readers):
    while True:
        with _explained_errors(options, kv):
            parts = [reader.next() for reader in readers]
        images = [part.data[0] for part in parts]
        labels = [part.label[0].reshape((-1,)) for part in parts]
        yield mx.io.DataBatch(data=[_concatenate(images)], label=[_concatenate(labels)], pad=0)


def _empty(reader):
    """Take the last batches out of a reader: one that is not full and, in the middle of an epoch, one more."""
    with suppress(StopIteration, mx.base.MXNetError):
        for _ in range(2):
            reader.next()


def _concatenate(arrays):
    return arrays[0] if len(arrays) == 1 else mx.nd.concat(*arrays, dim=0)


@contextmanager
def _explained_errors(options, kv):
    """If `ImageRecordIter` fails, raise `UserError` that names the record; MXNet's own error does not."""
    try:
        yield
    except mx.base.MXNetError as error:
        if 'max_crop_size' in str(error):
            raise UserError(
                f'--max-crop-size {options.max_crop_size}: an image of {options.data_train} is smaller'
            ) from None
        check_decodable(*_own_records(options, kv), decoding_threads(options))
        # Its OpenCV returns an empty image, and then cannot resize it.
        if 'OpenCV' in str(error):
            raise UserError(
                f'{options.data_train}: the image of a record does not decode; '
                f'scripts/check_dataset.py {options.data_train.parent} finds it'
            ) from None
        raise


def _own_records(options, kv):
    """Return the `RecordFile` for training, and the numbers of the records that this process reads."""
    records = RecordFile(options.data_train, index_path(options.data_train, options.data_train_idx))
    begin, end = shard_bounds(len(records), kv.size(), kv.rank())
    return records, records.in_file_order[begin:end]


def validation_data(options, kv, devices, process_batch):
    """Return the validation iterator over record files."""
    records = RecordFile(options.data_val, index_path(options.data_val, options.data_val_idx))
    begin, end = validation_bounds(len(records), kv, options.dali_separ_val)
    batch_size, num_steps = validation_steps(end - begin, process_batch, len(devices))

    @contextmanager
    def open_epoch(_):
        with closing(_read_validation(options, records, range(begin, end), batch_size)) as batches:
            yield split_over_devices(batches, devices, options.form)

    return DeviceBatches(open_epoch, num_steps, batch_size // len(devices), len(devices), end - begin, records, begin)


def _read_validation(options, records, numbers, batch_size):
    """Decode records in order, some batches ahead, and yield batches; the last one is padded with zeros."""

    evaluation = options.evaluation

    def load(number, out):
        image, label = read_pixels(records, number)
        evaluation_transform(image, evaluation, out)
        return label

    pool = ThreadPoolExecutor(decoding_threads(options), initializer=run_on_all_cores)
    starts = iter(range(0, len(numbers), batch_size))
    ahead = deque()

    def submit_batch():
        start = next(starts, None)
        if start is not None:
            images = np.zeros((batch_size, RGB_CHANNELS, *options.image_shape[1:]), dtype=np.float32)
            loaded = [pool.submit(load, *place) for place in zip(numbers[start : start + batch_size], images)]
            ahead.append((images, loaded))

    try:
        for _ in range(BATCHES_AHEAD):
            submit_batch()
        while ahead:
            images, loaded = ahead[0]
            labels = np.zeros(batch_size, dtype=np.float32)
            labels[: len(loaded)] = [future.result() for future in loaded]
            ahead.popleft()
            submit_batch()
            pad = batch_size - len(loaded)
            yield mx.io.DataBatch(data=[mx.nd.from_numpy(images)], label=[mx.nd.array(labels)], pad=pad)
    finally:
        for future in (future for _, loaded in ahead for future in loaded):
            future.cancel()
        pool.shutdown()
