"""The data set and its backends: options, checks, `get_data_loader` and `open_data`.

`get_data_loader(args)` returns a function `(args, kv) -> (train, val)`; both are `DeviceBatches`. `val` is None without
`--data-val`, and `train` is None if the mode does not train. `open_data(args, kv)` also closes them, and `open_stages`
reads training images whose size grows.
"""

import math
from contextlib import ExitStack, contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path

import dali
from imagenet.architectures.registry import IMAGE_SHAPE
from imagenet.common.errors import UserError
from imagenet.common.files import file_sha256
from imagenet.common.modes import Mode
from imagenet.common.options import (
    LARGEST_SIDE,
    comma_separated,
    integer,
    number,
    option_name,
    parse_image_shape,
    pick,
    with_changes,
)
from imagenet.datasets.class_names import data_folders, first_class_names
from imagenet.datasets.records import check_record_file, index_path
from imagenet.input_pipeline import auto_augment, interpolation, mxnet_backend, synthetic_backend
from imagenet.input_pipeline.batches import StagedBatches
from imagenet.runtime.dali_library import is_installed, load_dali
from imagenet.runtime.devices import local_devices

IMAGENET_TRAINING_EXAMPLES = 1281167
IMAGENET_CLASSES = 1000
# The options that the checkpoint of --load gives if they are left out; otherwise they have these values.
INPUT_DEFAULTS = {
    'image_shape': IMAGE_SHAPE,
    'data_val_resize': 256,
    'interpolation': interpolation.DEFAULT,
    'rgb_mean': (123.68, 116.779, 103.939),
    'rgb_std': (58.393, 57.12, 57.375),
}
BACKENDS = ('dali-gpu', 'dali-cpu', 'mxnet', 'synthetic')


def add_data_args(parser):
    group = parser.add_argument_group('Data')
    default = 'default: that of the checkpoint of --load, else'
    group.add_argument('--data-train', type=Path, help='record file with the training images (.rec)')
    group.add_argument('--data-train-idx', type=Path, help='its index (default: the .idx file next to it)')
    group.add_argument('--data-val', type=Path, help='record file with the validation images (.rec)')
    group.add_argument('--data-val-idx', type=Path, help='its index (default: the .idx file next to it)')
    group.add_argument(
        '--data-backend',
        choices=BACKENDS,
        help='dali-gpu, dali-cpu and mxnet read record files; synthetic generates images and labels from the seed '
        '(default: dali-gpu on GPUs, dali-cpu on a CPU, mxnet if DALI is not installed)',
    )
    group.add_argument(
        '--image-shape',
        type=parse_image_shape,
        help="channels, height and width of the network's input, in this order for every layout; a fourth channel is "
        f"filled with zeros ({default} the architecture's own, or 3,224,224)",
    )
    group.add_argument(
        '--input-channels',
        type=int,
        choices=(3, 4),
        help='the number of channels if --image-shape is left out; `runner` sets 4 if that is faster',
    )
    group.add_argument(
        '--rgb-mean',
        type=comma_separated(number(at_least=-1e6, at_most=1e6)),
        help=f'mean of the channels (0 to 255), which is subtracted ({default} 123.68,116.779,103.939)',
    )
    group.add_argument(
        '--rgb-std',
        type=comma_separated(number(at_least=-1e6, at_most=1e6)),
        help=f'standard deviation that the channels are divided by ({default} 58.393,57.12,57.375)',
    )
    group.add_argument(
        '--num-examples',
        type=integer(at_least=1),
        help='training images per epoch (default: the number of lines in the index; 1281167 for synthetic data)',
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument(
        '--data-val-resize',
        type=integer(1, LARGEST_SIDE),
        help=f'shorter side of an evaluation image before the center crop ({default} 256)',
    )
    size.add_argument(
        '--crop-fraction',
        type=number(above=0, at_most=1),
        help='share of the shorter side that the center crop covers, instead of --data-val-resize: 0.875 is 256 for '
        '224 pixels, rounded down (of a crop that is not square, the longer side)',
    )
    group.add_argument(
        '--interpolation',
        choices=tuple(interpolation.FILTERS),
        help='filter that resizes images: linear, or an antialiased one: triangular (antialiased linear), cubic or '
        'lanczos; training with the mxnet backend always uses linear '
        f'(default: that of the checkpoint of --load or of the resumed run, else {interpolation.DEFAULT})',
    )
    return group


def add_augmentation_args(parser):
    group = parser.add_argument_group('Augmentation', 'Augmentation of training images in all DALI and MXNet backends')
    group.add_argument(
        '--random-mirror',
        type=int,
        choices=(0, 1),
        default=1,
        help='flip half of the images horizontally (default: %(default)s)',
    )
    group.add_argument(
        '--repeated-augmentation',
        type=integer(1, 100),
        default=1,
        metavar='N',
        help='read each image of an epoch N times, differently augmented, and only as many images as fill the usual '
        'number of batches; with --data-backend dali-gpu and dali-cpu (default: %(default)s)',
    )
    area, ratio = number(above=0, at_most=1), number(at_least=0.001, at_most=1000)
    for name, kind, text in (
        (
            'min-random-area',
            area,
            'smallest share of the image area that the random crop covers; the crop is resized to the image shape',
        ),
        ('max-random-area', area, 'largest share of the image area that it covers'),
        ('min-random-aspect-ratio', ratio, 'smallest aspect ratio of the crop; mxnet also uses its inverse'),
        ('max-random-aspect-ratio', ratio, 'largest aspect ratio of the crop'),
    ):
        key = name.replace('-', '_')
        defaults = f'{dali.RANDOM_CROP[key]:.3g} with DALI, {mxnet_backend.RANDOM_CROP[key]:.3g} with mxnet'
        group.add_argument(f'--{name}', type=kind, help=f'{text} (default: {defaults})')
    return group


def with_crop_fraction(args, image_shape):
    """Return the options with the `--data-val-resize` that `--crop-fraction` stands for.

    Args:
        image_shape: `(C, H, W)`, for use if the options for it are left out.

    Raises:
        UserError: it is too large.
    """
    if args.crop_fraction is None:
        return args
    crop = args.val_image_size or max((args.image_shape or image_shape)[1:])
    # As a decimal: 270 / 0.54 is less than 500 in binary.
    shorter_side = math.floor(crop / Fraction(str(args.crop_fraction)))
    if shorter_side > LARGEST_SIDE:
        raise UserError(
            f'--crop-fraction {args.crop_fraction:g}: the shorter side would be {shorter_side} for a crop of {crop}; '
            f'must be at most {LARGEST_SIDE}'
        )
    return with_changes(args, data_val_resize=shorter_side)


def check_data_args(args):
    """Raise `UserError` if options contradict each other; it reads no files."""
    reads_evaluation_images = args.mode is not Mode.TRAIN and args.data_backend != 'synthetic'
    if reads_evaluation_images and max(args.image_shape[1:]) > args.data_val_resize:
        raise UserError(
            f'--data-val-resize {args.data_val_resize}: a crop of --image-shape {_join(args.image_shape)} '
            f'does not fit; use at least {max(args.image_shape[1:])}'
        )
    for name in ('rgb_mean', 'rgb_std'):
        if len(getattr(args, name)) != 3:
            raise UserError(f'{option_name(name)} {_join(getattr(args, name))}: must be three numbers')
    if 0 in args.rgb_std:
        raise UserError(f'--rgb-std {_join(args.rgb_std)}: images cannot be divided by 0')
    for name in ('random-area', 'random-aspect-ratio'):
        low, high = (getattr(args, f'{end}_{name.replace("-", "_")}') for end in ('min', 'max'))
        if not low <= high:
            raise UserError(f'--min-{name} {low:g} --max-{name} {high:g}: must be min <= max')
    pick(mxnet_backend.Augmentation, args)
    pick(auto_augment.AutoAugmentOptions, args)


def _join(values):
    return ','.join(f'{value:g}' for value in values)


def choose_backend(args):
    """Choose the data backend, unless --data-backend names it, and load it.

    Returns:
        The options that depend on it, by name, and lines for the log about what a user may not expect.

    Raises:
        UserError: the backend cannot run here, or does not support an augmentation.
    """
    backend, notes = args.data_backend, []
    if backend is None:
        backend = f'dali-{args.device}' if is_installed() else 'mxnet'
        if backend == 'mxnet':
            notes.append('DALI is not installed: using --data-backend mxnet')
    if backend == 'mxnet' and args.mode.trains and args.interpolation != interpolation.NOT_ANTIALIASED:
        notes.append(
            f'--data-backend mxnet resizes training images with --interpolation {interpolation.NOT_ANTIALIASED}; '
            'other filters apply only to validation'
        )
    if backend.startswith('dali'):
        load_dali(backend, args.device)
        mxnet_backend.check_unused(pick(mxnet_backend.Augmentation, args), backend)
    elif args.mode.trains:
        auto_augment.check_unused(pick(auto_augment.AutoAugmentOptions, args), backend)
        if args.repeated_augmentation > 1:
            raise UserError(
                f'--repeated-augmentation {args.repeated_augmentation}: --data-backend {backend} cannot do that; '
                'use --data-backend dali-cpu'
            )
    crop = dali.RANDOM_CROP if backend.startswith('dali') else mxnet_backend.RANDOM_CROP
    chosen = {name: default if getattr(args, name) is None else getattr(args, name) for name, default in crop.items()}
    return {'data_backend': backend, **chosen}, notes


LOADERS = {'dali-gpu': dali, 'dali-cpu': dali, 'mxnet': mxnet_backend, 'synthetic': synthetic_backend}


def get_data_loader(args):
    """Return the function `(args, kv) -> (train, val)` of the chosen backend; `kv` has `rank()` and `size()`."""
    return partial(load_data, LOADERS[args.data_backend])


@contextmanager
def open_data(args, kv):
    """Provide the training and validation iterators, and close them at the end of the block."""
    with ExitStack() as stack:
        loaded = get_data_loader(args)(args, kv)
        for batches in loaded:
            if batches is not None:
                stack.enter_context(batches)
        yield loaded


@contextmanager
def open_stages(args, kv):
    """Provide the `StagedBatches` of a run that trains and its validation iterator, and close them at the end."""

    def open_stage(stage):
        return get_data_loader(args)(stage_options(args, stage), kv)[0]

    validating = open_data(with_changes(args, mode=Mode.VAL), kv) if args.mode.validates else nullcontext((None, None))
    with StagedBatches(open_stage) as training, validating as (_, validation):
        yield training, validation


def stage_options(args, stage):
    """Return the options with which a `Stage` reads its training images."""
    image_shape = (args.image_shape[0], *stage.image_size)
    changes = {} if stage.magnitude is None else {'randaugment_magnitude': stage.magnitude}
    return with_changes(args, mode=Mode.TRAIN, image_shape=image_shape, batch_size=stage.batch_size, **changes)


def load_data(backend, args, kv):
    """Return the training and validation iterators of a backend, which is a module."""
    options = pick(backend.Options, args)
    devices = local_devices(args.device, args.gpus)
    process_batch = args.batch_size // kv.size()
    has_validation = args.mode.validates and (args.data_val is not None or args.data_backend == 'synthetic')
    train = backend.training_data(options, kv, devices, process_batch) if args.mode.trains else None
    return train, backend.validation_data(options, kv, devices, process_batch) if has_validation else None


def describe_dataset(args):
    """Determine the numbers of classes and training images if they are not given, and check the data set's files.

    Returns:
        The options `num_classes` and `num_examples`, by name.

    Raises:
        UserError: a file is missing or damaged, or contradicts the options.
    """
    num_classes, num_examples = args.num_classes, args.num_examples
    named = first_class_names(data_folders(args.data_train, args.data_val))
    if num_classes is None:
        num_classes = len(named) if named and args.data_backend != 'synthetic' else IMAGENET_CLASSES
    if args.data_backend == 'synthetic':
        return {'num_classes': num_classes, 'num_examples': num_examples or IMAGENET_TRAINING_EXAMPLES}
    if args.mode.trains:
        records = _check_records('--data-train', args.data_train, args.data_train_idx, num_classes)
        if (num_examples or 0) > records:
            raise UserError(f'--num-examples {num_examples}: {args.data_train} holds {records}')
        num_examples = num_examples or records
    if args.mode in (Mode.VAL, Mode.CALIBRATE) or (args.mode.validates and args.data_val is not None):
        _check_records('--data-val', args.data_val, args.data_val_idx, num_classes)
    if args.mode is Mode.CALIBRATE:
        path, idx_path = calibration_records(args)
        records = check_record_file(path, idx_path, num_classes)
        if args.calib_images > records:
            raise UserError(f'--calib-images {args.calib_images}: {path} holds {records}')
    return {'num_classes': num_classes, 'num_examples': num_examples}


def calibration_records(args):
    """Return the record file that `--mode calibrate` measures ranges with, and its index.

    Training images are preferred, so that the int8 network is validated on other images.
    """
    has_training_records = args.data_train is not None and args.data_train.exists()
    path, idx = (args.data_train, args.data_train_idx) if has_training_records else (args.data_val, args.data_val_idx)
    return path, index_path(path, idx)


def dataset_fingerprint(args):
    """Return a description of the record files, by option, to check that all processes read the same ones.

    It contains the size of each file and the hash of its index.
    """
    if args.data_backend == 'synthetic':
        return {}
    files = {
        '--data-train': (args.data_train, args.data_train_idx, args.mode.trains),
        '--data-val': (args.data_val, args.data_val_idx, args.mode.validates),
    }
    return {
        option: f'{record.stat().st_size} bytes with index {file_sha256(index_path(record, index))[:12]}'
        for option, (record, index, is_read) in files.items()
        if is_read and record is not None
    }


def _check_records(option, record_path, idx_path, num_classes):
    if record_path is None:
        raise UserError(f'{option} is missing: name a record file, or use --data-backend synthetic')
    return check_record_file(record_path, index_path(record_path, idx_path), num_classes)
