"""The iterators' contract, the same for every backend."""

from collections import Counter

import cv2
import numpy as np
import pytest

import data
from helpers.loaders import RECORD_BACKENDS, load, make_args, raw_pixels, read, without_augmentation, write_records
from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.common.options import with_changes
from imagenet.datasets import decoding
from imagenet.datasets.records import check_record_file
from imagenet.input_pipeline.transforms import as_network_input, evaluation_transform
from imagenet.runtime.compat import mx


@pytest.fixture(params=RECORD_BACKENDS)
def args(small_data, request):
    args = make_args(small_data, request.param)
    return with_changes(args, **data.describe_dataset(args))


def test_counts_come_from_the_data_set(args):
    assert (args.num_classes, args.num_examples) == (10, 240)


@pytest.mark.parametrize('size', [1, 2, 3])
def test_validation_sees_every_example_once(args, size):
    args.batch_size = 8 * size
    seen = Counter()
    for rank in range(size):
        _, val = load(args, rank, size)
        _, labels = read(val)
        assert len(labels) == val.num_examples
        seen.update(labels)
    assert seen == dict.fromkeys(range(10), 7)


@pytest.mark.parametrize('size', [1, 2, 3])
def test_training_sees_every_example_once(args, size):
    args.batch_size = 8 * size
    seen, images = Counter(), set()
    without_augmentation(args)
    for rank in range(size):
        train, _ = load(args, rank, size)
        assert len(train) == 240 // size // 8
        own_images, labels = read(train)
        seen.update(labels)
        images.update(image.tobytes() for image in own_images)
    assert seen == dict.fromkeys(range(10), 24)
    assert len(images) == 240


def test_training_leaves_out_other_examples_in_every_epoch(args):
    args.batch_size = 100
    without_augmentation(args)
    train, _ = load(args)
    assert len(train) == 2
    epochs = [{image.tobytes() for image in read(train, epoch)[0]} for epoch in range(3)]
    assert [len(epoch) for epoch in epochs] == [200] * 3
    everything = set.union(*epochs)
    left_out = [everything - epoch for epoch in epochs]
    assert left_out[0] != left_out[1] != left_out[2] != left_out[0]


def test_every_process_may_validate_everything(args):
    args.dali_separ_val = True
    for rank in range(2):
        _, labels = read(load(args, rank, 2)[1])
        assert Counter(labels) == dict.fromkeys(range(10), 7)


def test_more_processes_than_validation_images(args, tmp_path):
    images = [np.full((40, 40, 3), 10 * index, dtype=np.uint8) for index in range(2)]
    args.data_val, args.batch_size = write_records(tmp_path, images, labels=[3, 5], split='val'), 9
    seen = [read(val)[1] if len(val) else [] for val in (load(args, rank, 3)[1] for rank in range(3))]
    assert sorted(sum(seen, [])) == [3, 5]
    assert seen[2] == []


def test_seed_and_epoch_fix_order_and_augmentation(args):
    train, _ = load(args)
    again, _ = load(args)
    first, second = read(train, 0), read(train, 1)
    np.testing.assert_array_equal(first[0], read(again, 0)[0])
    # An epoch does not depend on those before it: a resumed run sees the same data.
    np.testing.assert_array_equal(second[0], read(again, 1)[0])
    assert first[1] != second[1]
    args.seed = 2
    assert read(load(args)[0], 0)[1] != first[1]


def test_crops_differ_between_batches(args, tmp_path):
    """All images are the same, so only their crops can differ."""
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (1, 64, 3))
    args.data_train, args.num_examples = write_records(tmp_path, [ramp] * 64), 64
    images, _ = read(load(args)[0])
    # MXNet's readers each have half of the images, and all draw the same crops.
    assert len({image.tobytes() for image in images}) >= 32


@pytest.mark.parametrize('mirror', [0, 1])
def test_random_mirror(args, mirror):
    plain, _ = read(load(without_augmentation(args))[0])
    args.random_mirror = mirror
    images, _ = read(load(args)[0])
    unflipped = {image.tobytes() for image in plain}
    flipped = {image[:, :, ::-1].tobytes() for image in plain}
    counts = Counter(
        'plain' if image.tobytes() in unflipped else 'flipped' if image.tobytes() in flipped else 'other'
        for image in images
    )
    assert counts['other'] == 0
    if mirror:
        assert 80 < counts['flipped'] < 160
    else:
        assert counts == {'plain': 240}


@pytest.mark.parametrize('fuse_decoder', [0, 1])
def test_crop_area_and_aspect_ratio(args, tmp_path, fuse_decoder):
    """The image's colors are its coordinates, so the range of colors in a crop is the crop's size."""
    across, down = np.meshgrid(np.arange(128, dtype=np.uint8), np.arange(128, dtype=np.uint8))
    image = np.stack([np.zeros_like(down), down, across], axis=-1)
    args.data_train, args.num_examples = write_records(tmp_path, [image] * 160), 160
    raw_pixels(args)
    args.random_mirror, args.dali_fuse_decoder = 0, fuse_decoder
    args.min_random_area, args.max_random_area = 0.2, 0.4
    args.min_random_aspect_ratio, args.max_random_aspect_ratio = 1.5, 2
    images, _ = read(load(args)[0])
    widths, heights = (np.ptp(images[:, channel], axis=(1, 2)) for channel in (0, 1))
    areas = widths * heights / 128**2
    if args.data_backend == 'mxnet':
        # It uses the ratio or its inverse, each half of the time.
        assert 40 < (widths > heights).sum() < 120
    else:
        assert (widths > heights).all()
    ratios = np.maximum(widths, heights) / np.minimum(widths, heights)
    # Interpolation trims the range at a crop's edges by up to two pixels.
    assert 0.17 < areas.min() < 0.25 < 0.35 < areas.max() < 0.42
    assert 1.4 < ratios.min() < 1.6 < 1.9 < ratios.max() < 2.1


def test_mean_and_deviation_normalize(args):
    normalized, _ = read(load(args)[1])
    raw, _ = read(load(raw_pixels(args))[1])
    assert raw.min() >= 0
    assert raw.max() <= 255
    mean = np.array([123.68, 116.779, 103.939])[:, None, None]
    std = np.array([58.393, 57.12, 57.375])[:, None, None]
    np.testing.assert_allclose(normalized, (raw - mean) / std, atol=1e-4)


def photographs(count):
    """Yield smooth images of many sizes. Their crops change if they are off by a pixel."""
    random = np.random.RandomState(0)
    for _ in range(count):
        height, width = random.randint(40, 120, size=2)
        yield cv2.resize(random.randint(0, 256, (9, 9, 3), dtype=np.uint8), (width, height))


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
def test_validation_cuts_out_what_opencv_does(args, tmp_path, extension):
    encoded = [cv2.imencode(extension, image)[1] for image in photographs(20)]
    args.data_val = write_records(tmp_path, [image.tobytes() for image in encoded], split='val')
    args.data_val_resize = 40
    images, _ = read(load(args)[1])
    expected = np.stack([evaluation_transform(cv2.imdecode(image, cv2.IMREAD_COLOR), args) for image in encoded])
    difference = np.abs(images - expected)
    assert difference.mean() < 0.002 * np.ptp(expected)
    assert difference.max() < 0.02 * np.ptp(expected)


def test_backends_validate_the_same_images(small_data):
    images = [read(load(make_args(small_data, backend, mode=Mode.VAL))[1])[0] for backend in RECORD_BACKENDS]
    assert np.abs(images[0] - images[1]).mean() < 0.02 * np.ptp(images[0])


def test_four_channels_and_layouts(args):
    """Backends convert images as `as_network_input` does."""
    (plain, _), (plain_validation, _) = (read(iterator) for iterator in load(args))
    args.image_shape, args.input_layout = (4, 32, 32), 'NHWC'
    for iterator, expected in zip(load(args), (plain, plain_validation)):
        images, _ = read(iterator)
        assert images.shape[1:] == (32, 32, 4)
        np.testing.assert_array_equal(images, as_network_input(mx.nd.array(expected), args).asnumpy())


def test_several_devices_share_a_batch(args, monkeypatch):
    without_augmentation(args)
    expected = [read(iterator) for iterator in load(args)]
    monkeypatch.setattr(data, 'local_devices', lambda *_: [mx.cpu(0), mx.cpu(1)])
    iterators = load(args)
    for iterator, (images, labels) in zip(iterators, expected):
        assert (iterator.batch_size, iterator.num_devices) == (8, 2)
        on_devices, labels_on_devices = read(iterator)
        assert labels_on_devices == labels
        np.testing.assert_array_equal(on_devices, images)
    iterators[1].reset(0)
    batches = list(iterators[1])
    assert [batch.data[0].context for batch in batches[0]] == [mx.cpu(0), mx.cpu(1)]
    # 70 images in batches of 16: the last batch has 6, all on the first device.
    assert [batch.pad for batch in batches[-1]] == [2, 8]


def test_batch_larger_than_the_data_set(args):
    args.batch_size = 256
    with pytest.raises(UserError, match='--batch-size 256: the 240 training images do not fill one batch'):
        load(args)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_records_with_two_labels(args, tmp_path, split):
    """They are refused while they are read, as `check_record_file` does not look at every record."""
    images = [np.full((40, 40, 3), 99, dtype=np.uint8)] * 33
    labels = [4] * 30 + [[4]] + [[4, 7]] * 2
    setattr(args, f'data_{split}', write_records(tmp_path, images, labels, split))
    args.num_examples = 33
    iterator = load(args)[('train', 'val').index(split)]
    with pytest.raises(UserError, match=rf'{split}\.rec: record 3[12] at byte \d+ has 2 labels, but a classifier'):
        read(iterator)
    with pytest.raises(UserError, match=r'record 31 at byte \d+ has 2 labels'):
        check_record_file(tmp_path / f'{split}.rec', tmp_path / f'{split}.idx', num_classes=10)


def test_label_in_a_list_of_one(args, tmp_path):
    args.data_val = write_records(tmp_path, [np.full((40, 40, 3), 99, dtype=np.uint8)], [[4]], 'val')
    images, labels = read(load(raw_pixels(args))[1])
    assert labels == [4]
    assert (images == 99).all()
    assert check_record_file(args.data_val, tmp_path / 'val.idx', num_classes=5) == 1
    with pytest.raises(UserError, match='record 0 has label 4; --num-classes 4 allows 0 to 3'):
        check_record_file(args.data_val, tmp_path / 'val.idx', num_classes=4)


@pytest.mark.parametrize('bad', [b'', b'this is no image', cv2.imencode('.png', np.zeros((9, 9, 3)))[1].tobytes()[:60]])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_image_that_does_not_decode(args, tmp_path, bad, split):
    images = [np.full((40, 40, 3), index, dtype=np.uint8) for index in range(64)]
    images[41] = bad
    path = write_records(tmp_path, images, split=split)
    setattr(args, f'data_{split}', path)
    args.num_examples = 64
    offset = (tmp_path / f'{split}.idx').read_text().splitlines()[41].split()[1]
    iterator = load(args)[('train', 'val').index(split)]
    with pytest.raises(UserError, match=rf'{split}\.rec: record 41 at byte {offset}: its image does not decode'):
        read(iterator)


@pytest.mark.parametrize('is_found', [True, False])
def test_image_whose_header_is_right(args, tmp_path, monkeypatch, is_found):
    """Only decoding shows that it is damaged. In a large file, it is not searched for until it is found."""
    images = [np.full((40, 40, 3), index, dtype=np.uint8) for index in range(64)]
    jpeg = cv2.imencode('.jpg', images[41])[1].tobytes()
    # The tables that dequantize it become comments.
    images[41] = jpeg.replace(b'\xff\xdb', b'\xff\xfe')
    args.data_train, args.num_examples = write_records(tmp_path, images, split='train'), 64
    if not is_found:
        monkeypatch.setattr(decoding, 'SECONDS_OF_A_SEARCH', -1)
    expected = r'record 41 at byte \d+: its image' if is_found else r'the image of a record|one of \d+ records'
    with pytest.raises(UserError, match=rf'train\.rec: .*({expected})'):
        read(load(args)[0])


@pytest.mark.parametrize('size', [1, 3])
def test_synthetic_data(size):
    args = make_args(backend='synthetic', num_examples=100, batch_size=8 * size, num_classes=5)
    seen = 0
    for rank in range(size):
        train, val = load(args, rank, size)
        assert len(train) == {1: 12, 3: 4}[size]
        images, labels = read(val)
        seen += len(labels)
        assert images.shape[1:] == (3, 32, 32)
        assert set(labels) <= set(range(5))
        training_images, training_labels = read(train)
        np.testing.assert_array_equal(training_images[:8], images[:8])
        assert training_labels[:8] == labels[:8]
        np.testing.assert_array_equal(read(load(args, rank, size)[0], 1)[0], training_images)
    assert seen == 100


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'image_shape': (3, 64, 32)}, r'--data-val-resize 32: .* use at least 64'),
        ({'rgb_mean': (1.0,)}, r'--rgb-mean 1: must be three numbers'),
        ({'rgb_std': (1.0, 0.0, 1.0)}, r'--rgb-std 1,0,1'),
        ({'min_random_area': 0.9, 'max_random_area': 0.5}, r'--min-random-area 0.9 --max-random-area 0.5'),
        ({'min_random_scale': 2.0}, r'--min-random-scale 2 --max-random-scale 1'),
        ({'min_crop_size': 20}, r'--min-crop-size 20 --max-crop-size -1'),
        ({'random_crop': 1, 'max_random_scale': 2.0}, r'--random-crop --max-random-scale: add --random-resized-crop 0'),
    ],
)
def test_contradicting_options(changes, message):
    with pytest.raises(UserError, match=message):
        data.check_data_args(make_args(**changes))


@pytest.mark.parametrize(
    ('fraction', 'image_shape', 'default', 'shorter_side'),
    [
        (0.875, None, (3, 224, 224), 256),
        (0.9, (3, 299, 299), (3, 224, 224), 332),
        (0.54, (4, 270, 100), (3, 224, 224), 500),
        (0.8, None, (3, 32, 32), 40),
        (0.8, (3, 64, 64), (3, 32, 32), 80),
        (1, (3, 224, 200), (3, 224, 224), 224),
    ],
)
def test_crop_fraction(fraction, image_shape, default, shorter_side):
    args = make_args(crop_fraction=fraction, image_shape=image_shape, data_val_resize=None)
    assert data.with_crop_fraction(args, default).data_val_resize == shorter_side


def test_crop_fraction_that_is_too_small():
    args = make_args(crop_fraction=0.01, image_shape=(3, 224, 224))
    with pytest.raises(UserError, match='--crop-fraction 0.01: the shorter side would be 22400 .* at most 8192'):
        data.with_crop_fraction(args, (3, 224, 224))


@pytest.mark.parametrize(
    ('backend', 'mode', 'interpolation', 'is_noted'),
    [
        ('mxnet', Mode.TRAIN_VAL, 'triangular', True),
        ('mxnet', Mode.TRAIN_VAL, 'linear', False),
        ('mxnet', Mode.VAL, 'triangular', False),
        ('dali-cpu', Mode.TRAIN_VAL, 'triangular', False),
    ],
)
def test_training_images_of_mxnet_are_not_antialiased(backend, mode, interpolation, is_noted):
    _, notes = data.choose_backend(make_args(backend=backend, mode=mode, interpolation=interpolation))
    note = (
        '--data-backend mxnet resizes training images with --interpolation linear; other filters apply only to '
        'validation'
    )
    assert notes == ([note] if is_noted else [])


def test_more_examples_than_there_are(small_data):
    with pytest.raises(UserError, match=r'--num-examples 241: .* holds 240'):
        data.describe_dataset(make_args(small_data, num_examples=241))
