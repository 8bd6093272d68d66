"""The data set and its backends: options, checks, and `get_data_loader`.

`get_data_loader(args)` gives a function `(args, kv) -> (train, val)`, of two `batches.DeviceBatches`; `val` is None
without `--data-val`, `train` None where the mode does not train.
"""

from functools import partial
from pathlib import Path

import dali
from imagenet.common.errors import UserError
from imagenet.common.files import file_sha256
from imagenet.common.modes import validates
from imagenet.common.options import comma_separated
from imagenet.datasets.class_names import data_folders, read_class_names
from imagenet.datasets.records import check_record_file, index_path
from imagenet.input_pipeline import mxnet_backend
from imagenet.input_pipeline.synthetic_backend import synthetic_data_loader
from imagenet.runtime.dali_library import is_installed, load_dali
from imagenet.runtime.devices import local_devices

IMAGENET_TRAINING_EXAMPLES = 1281167
IMAGENET_CLASSES = 1000
BACKENDS = ('dali-gpu', 'dali-cpu', 'mxnet', 'synthetic')


def add_data_args(parser):
    group = parser.add_argument_group('Data')
    group.add_argument('--data-train', type=Path, help='the training records (.rec)')
    group.add_argument('--data-train-idx', type=Path, help='their index (default: the .idx file beside them)')
    group.add_argument('--data-val', type=Path, help='the validation records (.rec)')
    group.add_argument('--data-val-idx', type=Path, help='their index (default: the .idx file beside them)')
    group.add_argument(
        '--data-backend',
        choices=BACKENDS,
        help='dali-gpu, dali-cpu and mxnet read record files, synthetic makes images and labels up from the seed '
        '(default: dali-gpu on GPUs, dali-cpu on a CPU, mxnet where DALI is not installed)',
    )
    group.add_argument(
        '--image-shape',
        type=comma_separated(int),
        default=(3, 224, 224),
        help='channels, height and width of what the network sees, in this order whatever the layout; a fourth channel '
        'is 0 (default: 3,224,224)',
    )
    group.add_argument(
        '--rgb-mean',
        type=comma_separated(float),
        default=(123.68, 116.779, 103.939),
        help='subtracted from the channels of 0 to 255 (default: 123.68,116.779,103.939)',
    )
    group.add_argument(
        '--rgb-std',
        type=comma_separated(float),
        default=(58.393, 57.12, 57.375),
        help='the channels are divided by it (default: 58.393,57.12,57.375)',
    )
    group.add_argument(
        '--num-examples',
        type=int,
        help='training images in an epoch (default: the lines of the index; 1281167 for synthetic data)',
    )
    group.add_argument(
        '--data-val-resize',
        type=int,
        default=256,
        help='shorter side of an evaluation image before its centre is cropped (default: %(default)s)',
    )
    return group


def add_augmentation_args(parser):
    group = parser.add_argument_group('Augmentation', 'Of training images, by DALI and MXNet alike')
    group.add_argument(
        '--random-mirror',
        type=int,
        choices=(0, 1),
        default=1,
        help='flip half of the images left to right (default: %(default)s)',
    )
    for name, text in (
        ('min-random-area', 'least share of an image that the random crop takes, which is resized to the image shape'),
        ('max-random-area', 'greatest share that it takes'),
        ('min-random-aspect-ratio', 'least aspect ratio of the crop; mxnet takes it either way round'),
        ('max-random-aspect-ratio', 'greatest aspect ratio of the crop'),
    ):
        key = name.replace('-', '_')
        defaults = f'{dali.RANDOM_CROP[key]:.3g} with DALI, {mxnet_backend.RANDOM_CROP[key]:.3g} with mxnet'
        group.add_argument(f'--{name}', type=float, help=f'{text} (default: {defaults})')
    return group


def check_data_args(args):
    """Raises `UserError` for options that contradict each other; touches no file."""
    reads_evaluation_images = args.mode != 'train' and args.data_backend != 'synthetic'
    if reads_evaluation_images and max(args.image_shape[1:]) > args.data_val_resize:
        raise UserError(
            f'--data-val-resize {args.data_val_resize}: a crop of --image-shape {_join(args.image_shape)} '
            f'does not fit; use at least {max(args.image_shape[1:])}'
        )
    for name in ('rgb_mean', 'rgb_std'):
        if len(getattr(args, name)) != 3:
            raise UserError(f'--{name.replace("_", "-")} {_join(getattr(args, name))}: it takes three numbers')
    if 0 in args.rgb_std:
        raise UserError(f'--rgb-std {_join(args.rgb_std)}: images cannot be divided by 0')
    for name in ('random_area', 'random_aspect_ratio'):
        low, high = getattr(args, f'min_{name}'), getattr(args, f'max_{name}')
        option = name.replace('_', '-')
        if not 0 < low <= high or (name == 'random_area' and high > 1):
            limit = ' <= 1' if name == 'random_area' else ''
            raise UserError(f'--min-{option} {low:g} --max-{option} {high:g}: needed is 0 < min <= max{limit}')
    if args.num_examples is not None and args.num_examples < 1:
        raise UserError(f'--num-examples {args.num_examples}: needed is at least 1')
    dali.check_dali_args(args)
    mxnet_backend.check_mxnet_data_args(args)


def _join(values):
    return ','.join(f'{value:g}' for value in values)


def resolve_backend(args):
    """Chooses the data backend where nobody has, and what depends on it.

    Returns:
        A line for the log where the choice is not the usual one, else None.

    Raises:
        UserError: the backend cannot run here, or has no such augmentation.
    """
    note = None
    if args.data_backend is None:
        args.data_backend = f'dali-{args.device}' if is_installed() else 'mxnet'
        note = None if is_installed() else 'DALI is not installed: the data are read by --data-backend mxnet'
    if args.data_backend.startswith('dali'):
        load_dali(args.data_backend, args.device)
        mxnet_backend.check_unused(args)
    crop = dali.RANDOM_CROP if args.data_backend.startswith('dali') else mxnet_backend.RANDOM_CROP
    for name, default in crop.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    return note


def record_data_loader(backend, args, kv):
    """Training and validation iterators over record files, by the module of a backend."""
    devices = local_devices(args)
    process_batch = args.batch_size // kv.size()
    has_validation = validates(args) and args.data_val is not None
    train = backend.training_data(args, kv, devices, process_batch) if 'train' in args.mode else None
    return train, backend.validation_data(args, kv, devices, process_batch) if has_validation else None


def get_data_loader(args):
    """The function `(args, kv) -> (train, val)` of the chosen backend; `kv` has `rank()` and `size()`."""
    loaders = {
        'dali-gpu': partial(record_data_loader, dali),
        'dali-cpu': partial(record_data_loader, dali),
        'mxnet': partial(record_data_loader, mxnet_backend),
        'synthetic': synthetic_data_loader,
    }
    return loaders[args.data_backend]


def resolve_dataset(args):
    """Fills `num_classes` and `num_examples` from the data set where they were not given, and checks its files.

    Raises:
        UserError: a file is missing or damaged, or contradicts the options.
    """
    counted = next(filter(None, map(read_class_names, data_folders(args))), None)
    if args.num_classes is None:
        args.num_classes = len(counted) if counted and args.data_backend != 'synthetic' else IMAGENET_CLASSES
    if args.data_backend == 'synthetic':
        args.num_examples = args.num_examples or IMAGENET_TRAINING_EXAMPLES
        return
    if 'train' in args.mode:
        records = _check_records('--data-train', args.data_train, args.data_train_idx, args)
        if (args.num_examples or 0) > records:
            raise UserError(f'--num-examples {args.num_examples}: {args.data_train} holds {records}')
        args.num_examples = args.num_examples or records
    if args.mode in ('val', 'calibrate') or (validates(args) and args.data_val is not None):
        _check_records('--data-val', args.data_val, args.data_val_idx, args)
    if args.mode == 'calibrate':
        path, idx_path = calibration_records(args)
        records = check_record_file(path, idx_path, args.num_classes)
        if args.calib_images > records:
            raise UserError(f'--calib-images {args.calib_images}: {path} holds {records}')


def calibration_records(args):
    """The record file that `--mode calibrate` measures ranges with, and its index: not those it is judged by."""
    has_training_records = args.data_train is not None and args.data_train.exists()
    path, idx = (args.data_train, args.data_train_idx) if has_training_records else (args.data_val, args.data_val_idx)
    return path, index_path(path, idx)


def data_facts(args):
    """What tells the record files apart from others, by option: all processes must read the same ones."""
    if args.data_backend == 'synthetic':
        return {}
    files = {
        '--data-train': (args.data_train, args.data_train_idx, 'train' in args.mode),
        '--data-val': (args.data_val, args.data_val_idx, validates(args)),
    }
    return {
        option: f'{record.stat().st_size} bytes with index {file_sha256(index_path(record, index))[:12]}'
        for option, (record, index, is_read) in files.items()
        if is_read and record is not None
    }


def _check_records(option, record_path, idx_path, args):
    if record_path is None:
        raise UserError(f'{option} is missing: name a record file, or use --data-backend synthetic')
    return check_record_file(record_path, index_path(record_path, idx_path), args.num_classes)
