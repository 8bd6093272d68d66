"""Images and labels: what a data set holds, and the iterators that yield it.

`get_data_loader(args)` gives a function `(args, kv) -> (train, val)`; `val` is None without `--data-val`, `train` None
where the mode does not train. Each iterator yields, per step, a list with one `mx.io.DataBatch` per local device:
`.data[0]` images, `.label[0]` class indices (float32, shape `(batch,)`), `.pad` examples at the end that do not count.
It has `batch_size` (per device), `num_devices`, `num_examples` (of this process's share), `len()` (steps in an epoch)
and `reset(epoch)`, which starts an epoch whose order and augmentation follow from the seed, the epoch and the rank.
"""

import math
from pathlib import Path

import cv2
import numpy as np

import distributed
from compat import mx
from errors import UserError
from layers import change_layout
from options import comma_separated
from recordio import check_record_file, index_path, read_index

RGB_CHANNELS = 3
IMAGENET_TRAINING_EXAMPLES = 1281167
IMAGENET_VALIDATION_EXAMPLES = 50000
IMAGENET_CLASSES = 1000
IMAGENET_CLASS_FILE = Path(__file__).resolve().parent / 'assets' / 'imagenet_classes.txt'


def add_data_args(parser):
    group = parser.add_argument_group('Data')
    group.add_argument('--data-train', type=Path, help='the training records (.rec)')
    group.add_argument('--data-train-idx', type=Path, help='their index (default: the .idx file beside them)')
    group.add_argument('--data-val', type=Path, help='the validation records (.rec)')
    group.add_argument('--data-val-idx', type=Path, help='their index (default: the .idx file beside them)')
    group.add_argument('--data-pred', type=Path, help='the image to classify in --mode pred')
    group.add_argument(
        '--data-backend',
        choices=tuple(DATA_LOADERS),
        default='mxnet',
        help='mxnet reads record files, synthetic makes images and labels up from the seed (default: %(default)s)',
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


def add_mxnet_data_args(parser):
    group = parser.add_argument_group('MXNet data backend')
    group.add_argument(
        '--data-mxnet-threads', type=int, help="decoding threads (default: this process's share of the cores)"
    )
    group.add_argument(
        '--random-mirror',
        type=int,
        choices=(0, 1),
        default=1,
        help='flip half of the training images left to right (default: %(default)s)',
    )
    crop = 'of the random crop that is resized to the image shape'
    group.add_argument('--min-random-area', type=float, default=0.05, help=f'least area {crop} (default: %(default)s)')
    group.add_argument('--max-random-area', type=float, default=1, help=f'greatest area {crop} (default: %(default)s)')
    group.add_argument(
        '--min-random-aspect-ratio',
        type=float,
        default=3 / 4,
        help=f'least aspect ratio {crop}, either way round (default: %(default)s)',
    )
    group.add_argument(
        '--max-random-aspect-ratio', type=float, default=1.33, help=f'greatest one {crop} (default: %(default)s)'
    )
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
    if args.data_mxnet_threads is not None and args.data_mxnet_threads < 1:
        raise UserError(f'--data-mxnet-threads {args.data_mxnet_threads}: needed is at least 1')
    if args.num_examples is not None and args.num_examples < 1:
        raise UserError(f'--num-examples {args.num_examples}: needed is at least 1')


def _join(values):
    return ','.join(f'{value:g}' for value in values)


def read_class_names(folder):
    """The lines of a folder's `classes.txt`, or None where there is none.

    Raises:
        UserError: the file is not text.
    """
    path = Path(folder) / 'classes.txt'
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding='utf-8').rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot read the names of the classes ({error})') from None


def find_class_names(folders, num_classes):
    """Names of a network's classes: from the first folder whose `classes.txt` has as many, else ImageNet's.

    ImageNet's folders are WordNet numbers; the words are put behind them. A network whose classes nobody has named gets
    'class 0' and so on.
    """
    imagenet = dict(line.split(' ', 1) for line in IMAGENET_CLASS_FILE.read_text(encoding='utf-8').splitlines())
    fallback = list(imagenet) if num_classes == len(imagenet) else [f'class {index}' for index in range(num_classes)]
    candidates = (read_class_names(folder) for folder in folders)
    names = next((names for names in candidates if names and len(names) == num_classes), fallback)
    return [f'{name} {imagenet[name]}' if name in imagenet else name for name in names]


def data_folders(args):
    """Where a `classes.txt` of the data would be."""
    return [path.parent for path in (args.data_train, args.data_val) if path is not None]


def load_image(path, args):
    """Reads one image as evaluation does: shorter side to `--data-val-resize`, centre crop, normalisation.

    Returns:
        A float32 array `(1, 3, H, W)`; see `as_network_input` for the network's own form.

    Raises:
        UserError: the file cannot be read or decoded.
    """
    try:
        encoded = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise UserError(f'--data-pred {path}: cannot read this image ({error.strerror})') from None
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if image is None:
        raise UserError(f'--data-pred {path}: not an image that OpenCV can decode')
    image = centre_crop(resize_shorter_side(image, args.data_val_resize), *args.image_shape[1:])
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32)
    normalized = (rgb - np.float32(args.rgb_mean)) / np.float32(args.rgb_std)
    return normalized.transpose(2, 0, 1)[np.newaxis]


def resize_shorter_side(image, length):
    height, width = image.shape[:2]
    shorter = min(height, width)
    size = (length * width // shorter, length * height // shorter)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def centre_crop(image, height, width):
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def as_network_input(images, args):
    """Images `(N, 3, H, W)` with as many channels, in the layout and of the precision that the network takes."""
    extra_channels = args.image_shape[0] - RGB_CHANNELS
    if extra_channels:
        zeros = mx.nd.zeros((images.shape[0], extra_channels, *images.shape[2:]), ctx=images.context)
        images = mx.nd.concat(images, zeros, dim=1)
    images = change_layout(mx.nd, images, 'NCHW', args.input_layout)
    return images.astype(args.dtype, copy=False)


def derive_seed(seed, *path):
    """An int32 seed that follows from the run's seed and, say, an epoch and a rank."""
    return int(np.random.SeedSequence((seed, *path)).generate_state(1)[0] >> 1)


class DeviceBatches:
    """Splits the batches of a `mx.io` iterator over the local devices, and stops after an epoch's steps.

    Args:
        make_iterator: a function of the epoch that gives that epoch's `mx.io.DataIter`, with batches for all the
            devices of this process.
        batch_size: examples per step and device.
        devices: the contexts that batches are copied to.
        args: options that say what the network takes, see `as_network_input`.
        num_examples: examples of this process's share that are read in an epoch.
        num_steps: steps in an epoch.
    """

    def __init__(self, make_iterator, batch_size, devices, args, num_examples, num_steps):
        self._make_iterator = make_iterator
        self._devices = devices
        self._args = args
        self._num_steps = num_steps
        self.batch_size = batch_size
        self.num_devices = len(devices)
        self.num_examples = num_examples
        self._iterator = None

    def __len__(self):
        return self._num_steps

    def reset(self, epoch):
        # A process whose shard is empty has nothing to read, and no reader that could be made.
        self._iterator = self._make_iterator(epoch) if self._num_steps else None

    def __iter__(self):
        for _ in range(self._num_steps):
            yield self._split(next(self._iterator))

    def _split(self, batch):
        counted = self.batch_size * self.num_devices - (batch.pad or 0)
        per_device = []
        for index, device in enumerate(self._devices):
            begin, end = index * self.batch_size, (index + 1) * self.batch_size
            part = mx.io.DataBatch(
                data=[as_network_input(batch.data[0][begin:end].as_in_context(device), self._args)],
                label=[batch.label[0][begin:end].as_in_context(device)],
                pad=min(self.batch_size, max(0, end - counted)),
            )
            per_device.append(part)
        return per_device


def _shard_size(num_examples, num_shards, shard):
    """How many of the examples MXNet's reader gives to a shard: equal runs, the last ones shorter."""
    per_shard = math.ceil(num_examples / num_shards)
    return max(0, min(per_shard, num_examples - per_shard * shard))


def training_steps(num_examples, batch_size, num_shards):
    """Whole batches that every shard has, so that all processes take the same number of steps.

    Raises:
        UserError: there is not one.
    """
    steps = _shard_size(num_examples, num_shards, num_shards - 1) // batch_size
    if steps == 0:
        raise UserError(
            f'--batch-size {batch_size * num_shards}: the {num_examples} training images do not fill one batch; '
            f'use a smaller one'
        )
    return steps


def _image_record_iter(args, record_path, idx_path, batch_size, kv, **settings):
    mean = dict(zip(('mean_r', 'mean_g', 'mean_b'), args.rgb_mean))
    std = dict(zip(('std_r', 'std_g', 'std_b'), args.rgb_std))
    return mx.io.ImageRecordIter(
        path_imgrec=str(record_path),
        path_imgidx=str(index_path(record_path, idx_path)),
        data_shape=(RGB_CHANNELS, *args.image_shape[1:]),
        batch_size=batch_size,
        preprocess_threads=args.data_mxnet_threads or distributed.available_cores(),
        num_parts=kv.size(),
        part_index=kv.rank(),
        # Plain memory on a machine without GPUs, page-locked memory for copies to one.
        device_id=-1 if args.device == 'cpu' else distributed.local_rank(),
        verbose=False,
        **mean,
        **std,
        **settings,
    )


def _mxnet_training_data(args, kv, devices, process_batch):
    num_examples = args.num_examples
    steps = training_steps(num_examples, process_batch, kv.size())

    def make_iterator(epoch):
        return _image_record_iter(
            args,
            args.data_train,
            args.data_train_idx,
            process_batch,
            kv,
            shuffle=True,
            # Augmentation follows from the order: it is drawn image after image from a generator that starts the same
            # in every iterator. (`seed_aug` would start it anew at every batch, and repeat the crops of the first.)
            seed=derive_seed(args.seed, epoch, kv.rank()),
            rand_mirror=bool(args.random_mirror),
            random_resized_crop=True,
            min_random_area=args.min_random_area,
            max_random_area=args.max_random_area,
            min_aspect_ratio=args.min_random_aspect_ratio,
            max_aspect_ratio=args.max_random_aspect_ratio,
        )

    shard = _shard_size(num_examples, kv.size(), kv.rank())
    return DeviceBatches(make_iterator, process_batch // len(devices), devices, args, shard, steps)


def _mxnet_validation_data(args, kv, devices, process_batch):
    num_examples = len(read_index(index_path(args.data_val, args.data_val_idx)))
    shard = _shard_size(num_examples, kv.size(), kv.rank())
    # MXNet fills a batch up by starting over once, so a batch must not be much larger than the shard.
    device_batch = min(process_batch // len(devices), max(1, math.ceil(shard / len(devices))))
    batch = device_batch * len(devices)

    def make_iterator(_):
        return _image_record_iter(args, args.data_val, args.data_val_idx, batch, kv, resize=args.data_val_resize)

    return DeviceBatches(make_iterator, device_batch, devices, args, shard, math.ceil(shard / batch))


def mxnet_data_loader(args, kv):
    """Training and validation iterators over record files, read by `mx.io.ImageRecordIter`."""
    devices = distributed.devices(args)
    process_batch = args.batch_size // kv.size()
    train = _mxnet_training_data(args, kv, devices, process_batch) if 'train' in args.mode else None
    has_validation = 'val' in args.mode and args.data_val is not None
    val = _mxnet_validation_data(args, kv, devices, process_batch) if has_validation else None
    return train, val


class SyntheticIterator(mx.io.DataIter):
    """The same random images and labels at every step: what is left of a step when reading costs nothing.

    Args:
        image_size: `(H, W)`.
        num_examples: how many examples an epoch has; the rest of the last batch is padding.
    """

    def __init__(self, batch_size, image_size, num_classes, num_examples, seed):
        super().__init__(batch_size)
        random = np.random.RandomState(seed)
        images = random.standard_normal((batch_size, RGB_CHANNELS, *image_size)).astype(np.float32)
        labels = random.randint(0, num_classes, size=batch_size).astype(np.float32)
        self._data, self._label = mx.nd.array(images), mx.nd.array(labels)
        self._left = num_examples

    def next(self):
        if self._left <= 0:
            raise StopIteration
        pad = max(0, self.batch_size - self._left)
        self._left -= self.batch_size
        return mx.io.DataBatch(data=[self._data], label=[self._label], pad=pad)


def synthetic_data_loader(args, kv):
    """Training and validation iterators over images and labels that follow from the seed alone."""
    devices = distributed.devices(args)
    process_batch = args.batch_size // kv.size()

    def make_loader(num_examples, count_steps):
        shard = _shard_size(num_examples, kv.size(), kv.rank())

        def make_iterator(_):
            seed = derive_seed(args.seed, kv.rank())
            return SyntheticIterator(process_batch, args.image_shape[1:], args.num_classes, shard, seed)

        return DeviceBatches(make_iterator, process_batch // len(devices), devices, args, shard, count_steps(shard))

    steps = training_steps(args.num_examples, process_batch, kv.size()) if 'train' in args.mode else 0
    train = make_loader(args.num_examples, lambda _: steps) if 'train' in args.mode else None
    val = None
    if 'val' in args.mode:
        num_validation = min(args.num_examples, IMAGENET_VALIDATION_EXAMPLES)
        val = make_loader(num_validation, lambda shard: math.ceil(shard / process_batch))
    return train, val


DATA_LOADERS = {'mxnet': mxnet_data_loader, 'synthetic': synthetic_data_loader}


def get_data_loader(args):
    """The function `(args, kv) -> (train, val)` of the chosen backend; `kv` has `rank()` and `size()`."""
    return DATA_LOADERS[args.data_backend]


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
    if args.mode == 'val' or ('val' in args.mode and args.data_val is not None):
        _check_records('--data-val', args.data_val, args.data_val_idx, args)


def _check_records(option, record_path, idx_path, args):
    if record_path is None:
        raise UserError(f'{option} is missing: name a record file, or use --data-backend synthetic')
    return check_record_file(record_path, index_path(record_path, idx_path), args.num_classes)
