"""data.py: the iterators' contract, and single images."""

import argparse
from collections import Counter, namedtuple

import cv2
import numpy as np
import pytest

import data
from compat import mx
from errors import UserError

Shard = namedtuple('Shard', 'rank size')


def make_args(folder=None, **changes):
    parser = argparse.ArgumentParser()
    data.add_data_args(parser)
    data.add_mxnet_data_args(parser)
    args = parser.parse_args(['--image-shape', '3,32,32', '--data-val-resize', '32'])
    if folder:
        args.data_train, args.data_val = folder / 'train.rec', folder / 'val.rec'
    settings = {
        'mode': 'train_val',
        'batch_size': 16,
        'seed': 1,
        'device': 'cpu',
        'gpus': [0],
        'num_classes': None,
        'input_layout': 'NCHW',
        'dtype': 'float32',
    }
    for name, value in {**settings, **changes}.items():
        setattr(args, name, value)
    return args


def load(args, rank=0, size=1):
    kv = Shard(lambda: rank, lambda: size)
    return data.get_data_loader(args)(args, kv)


def read(iterator, epoch):
    """The counted images and labels of an epoch."""
    iterator.reset(epoch)
    images, labels = [], []
    for (batch,) in iterator:
        counted = iterator.batch_size - batch.pad
        images.append(batch.data[0][:counted].asnumpy())
        labels.extend(batch.label[0][:counted].asnumpy().astype(int).tolist())
    return np.concatenate(images), labels


@pytest.fixture
def args(small_data):
    args = make_args(small_data)
    data.resolve_dataset(args)
    return args


def test_counts_come_from_the_data_set(args):
    assert (args.num_classes, args.num_examples) == (10, 240)


@pytest.mark.parametrize('size', [1, 2, 3])
def test_validation_sees_every_example_once(args, size):
    args.batch_size = 8 * size
    seen = Counter()
    for rank in range(size):
        _, val = load(args, rank, size)
        _, labels = read(val, 0)
        assert len(labels) == val.num_examples
        seen.update(labels)
    assert seen == dict.fromkeys(range(10), 7)


@pytest.mark.parametrize('size', [1, 2])
def test_training_sees_whole_batches_of_different_examples(args, size):
    args.batch_size = 16 * size
    images = []
    for rank in range(size):
        train, _ = load(args, rank, size)
        assert len(train) == 240 // size // 16
        # Without augmentation, equal images are the same example.
        args.random_mirror, args.min_random_area, args.min_random_aspect_ratio = 0, 1, 1
        args.max_random_aspect_ratio = 1
        images.extend(image.tobytes() for image in read(train, 0)[0])
    assert len(set(images)) == len(images) == 240 // size // 16 * 16 * size


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
    """One image many times: what is left to differ is the crop."""
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / 'train.idx'), str(tmp_path / 'train.rec'), 'w')
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (1, 64, 3))
    for key in range(64):
        writer.write_idx(key, mx.recordio.pack_img(mx.recordio.IRHeader(0, 0.0, key, 0), ramp, img_fmt='.png'))
    writer.close()
    args.data_train, args.num_examples = tmp_path / 'train.rec', 64
    train, _ = load(args)
    images, _ = read(train, 0)
    assert len({image.tobytes() for image in images}) > 60


@pytest.mark.parametrize('mirror', [0, 1])
def test_random_mirror(args, mirror):
    args.random_mirror, args.min_random_area, args.min_random_aspect_ratio = mirror, 1, 1
    args.max_random_aspect_ratio = 1
    images, labels = read(load(args)[0], 0)
    # Reading in order shows each image unflipped; flipped ones are missing there.
    unflipped = {image.tobytes() for image in _unaugmented(args)}
    flipped = {image[:, :, ::-1].tobytes() for image in _unaugmented(args)}
    counts = Counter(
        'plain' if image.tobytes() in unflipped else 'flipped' if image.tobytes() in flipped else 'other'
        for image in images
    )
    if mirror:
        assert counts['other'] == 0
        assert 80 < counts['flipped'] < 160
    else:
        assert counts == {'plain': 240}


def _unaugmented(args):
    mirror, args.random_mirror = args.random_mirror, 0
    images, _ = read(load(args)[0], 0)
    args.random_mirror = mirror
    return images


def test_crop_area_and_aspect_ratio(args, tmp_path):
    """An image whose colours are its coordinates: the range of colours of a crop is its size."""
    across, down = np.meshgrid(np.arange(128, dtype=np.uint8), np.arange(128, dtype=np.uint8))
    image = np.stack([np.zeros_like(down), down, across], axis=-1)
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / 'train.idx'), str(tmp_path / 'train.rec'), 'w')
    for key in range(160):
        writer.write_idx(key, mx.recordio.pack_img(mx.recordio.IRHeader(0, 0.0, key, 0), image, img_fmt='.png'))
    writer.close()
    args.data_train, args.num_examples, args.random_mirror = tmp_path / 'train.rec', 160, 0
    args.rgb_mean, args.rgb_std = (0, 0, 0), (1, 1, 1)
    args.min_random_area, args.max_random_area = 0.2, 0.4
    args.min_random_aspect_ratio, args.max_random_aspect_ratio = 1.5, 2
    images, _ = read(load(args)[0], 0)
    widths, heights = (np.ptp(images[:, channel], axis=(1, 2)) for channel in (0, 1))
    areas = widths * heights / 128**2
    # The ratio is taken either way round, half of the time each.
    ratios = np.maximum(widths, heights) / np.minimum(widths, heights)
    assert 40 < (widths > heights).sum() < 120
    # Interpolation trims the range at a crop's edges by up to two pixels.
    assert 0.17 < areas.min() < 0.25 < 0.35 < areas.max() < 0.42
    assert 1.4 < ratios.min() < 1.6 < 1.9 < ratios.max() < 2.1


def test_mean_and_deviation_normalise(args):
    _, val = load(args)
    normalised, _ = read(val, 0)
    args.rgb_mean, args.rgb_std = (0, 0, 0), (1, 1, 1)
    raw, _ = read(load(args)[1], 0)
    assert raw.min() >= 0
    assert raw.max() <= 255
    mean = np.array([123.68, 116.779, 103.939])[:, None, None]
    std = np.array([58.393, 57.12, 57.375])[:, None, None]
    np.testing.assert_allclose(normalised, (raw - mean) / std, atol=1e-4)


def test_single_image_is_read_as_validation_reads_it(args, tmp_path):
    random = np.random.RandomState(0)
    photograph = cv2.resize(random.randint(0, 256, (20, 30, 3), dtype=np.uint8), (90, 60))
    cv2.imwrite(str(tmp_path / 'a.png'), photograph)
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / 'val.idx'), str(tmp_path / 'val.rec'), 'w')
    writer.write_idx(0, mx.recordio.pack_img(mx.recordio.IRHeader(0, 0.0, 0, 0), photograph, img_fmt='.png'))
    writer.close()
    args.data_val, args.batch_size, args.data_val_resize = tmp_path / 'val.rec', 1, 40
    (image,), _ = read(load(args)[1], 0)
    np.testing.assert_allclose(data.load_image(tmp_path / 'a.png', args)[0], image, atol=1e-5)


@pytest.mark.parametrize('size', [1, 3])
def test_synthetic_data(size):
    args = make_args(data_backend='synthetic', num_examples=100, batch_size=8 * size, num_classes=5)
    seen = 0
    for rank in range(size):
        train, val = load(args, rank, size)
        assert len(train) == {1: 12, 3: 4}[size]
        images, labels = read(val, 0)
        seen += len(labels)
        assert images.shape[1:] == (3, 32, 32)
        assert set(labels) <= set(range(5))
        training_images, training_labels = read(train, 0)
        np.testing.assert_array_equal(training_images[:8], images[:8])
        assert training_labels[:8] == labels[:8]
    assert seen == 100


def test_several_devices_share_a_batch(args, monkeypatch):
    monkeypatch.setattr(data.distributed, 'devices', lambda _: [mx.cpu(0), mx.cpu(1)])
    _, val = load(args)
    assert (val.batch_size, val.num_devices) == (8, 2)
    val.reset(0)
    batches = list(val)
    assert [len(per_device) for per_device in batches] == [2] * 5
    assert [batch.data[0].context for batch in batches[0]] == [mx.cpu(0), mx.cpu(1)]
    # 70 images in batches of 16: the last has 6, all of them on the first device.
    assert [batch.pad for batch in batches[-1]] == [2, 8]


def test_batch_larger_than_the_data_set(args):
    args.batch_size = 256
    with pytest.raises(UserError, match='--batch-size 256: the 240 training images do not fill one batch'):
        load(args)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'image_shape': (3, 64, 32)}, r'--data-val-resize 32: .* use at least 64'),
        ({'rgb_mean': (1.0,)}, r'--rgb-mean 1: it takes three numbers'),
        ({'rgb_std': (1.0, 0.0, 1.0)}, r'--rgb-std 1,0,1'),
        ({'min_random_area': 0.9, 'max_random_area': 0.5}, r'--min-random-area 0.9 --max-random-area 0.5'),
        ({'max_random_area': 1.5}, r'needed is 0 < min <= max <= 1'),
        ({'data_mxnet_threads': 0}, r'--data-mxnet-threads 0'),
        ({'num_examples': 0}, r'--num-examples 0'),
    ],
)
def test_contradicting_options(changes, message):
    with pytest.raises(UserError, match=message):
        data.check_data_args(make_args(**changes))


def test_more_examples_than_there_are(small_data):
    with pytest.raises(UserError, match=r'--num-examples 241: .* holds 240'):
        data.resolve_dataset(make_args(small_data, num_examples=241))


def test_class_names(tmp_path):
    (tmp_path / 'classes.txt').write_text('cat\ndog\n\n')
    assert data.find_class_names([tmp_path / 'elsewhere', tmp_path], 2) == ['cat', 'dog']
    assert data.find_class_names([tmp_path], 3) == ['class 0', 'class 1', 'class 2']
    imagenet = data.find_class_names([tmp_path], 1000)
    assert imagenet[281] == 'n02123045 tabby, tabby cat'
    (tmp_path / 'classes.txt').write_text('n02123045\nn01440764\n')
    assert data.find_class_names([tmp_path], 2) == ['n02123045 tabby, tabby cat', 'n01440764 tench, Tinca tinca']


def test_class_names_that_are_no_text(tmp_path):
    (tmp_path / 'classes.txt').write_bytes('Käse\n'.encode('latin-1'))
    with pytest.raises(UserError, match=r'classes\.txt: cannot read the names'):
        data.read_class_names(tmp_path)


@pytest.mark.parametrize('content', [b'', b'this is no image'])
def test_image_that_does_not_decode(args, tmp_path, content):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'a\.jpg: not an image that OpenCV can decode'):
        data.load_image(path, args)
