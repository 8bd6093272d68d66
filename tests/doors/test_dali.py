"""dali.py: features that only this backend has."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

import dali
import data
from helpers.loaders import load, make_args, read, without_augmentation, write_records
from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.common.options import with_changes
from imagenet.runtime.compat import mx


@pytest.fixture
def args(small_data):
    args = make_args(small_data, 'dali-cpu')
    return with_changes(args, **data.describe_dataset(args))


@pytest.mark.parametrize(
    'changes',
    [
        {'dali_threads': 1, 'dali_validation_threads': 1},
        {'dali_prefetch_queue': 4},
        {'dali_dont_use_mmap': True},
    ],
)
def test_settings_that_do_not_change_the_images(args, changes):
    expected = [read(iterator) for iterator in load(args)]
    for name, value in changes.items():
        setattr(args, name, value)
    for iterator, (images, labels) in zip(load(args), expected):
        images_again, labels_again = read(iterator)
        assert labels_again == labels
        np.testing.assert_array_equal(images_again, images)


def test_fused_decoder_crops_the_same_way(args):
    """Both draw random crops: the pixels differ, but their mean hardly does."""
    fused, labels = read(load(args)[0])
    args.dali_fuse_decoder = 0
    separate, labels_again = read(load(args)[0])
    assert labels_again == labels
    assert not np.array_equal(separate, fused)
    assert abs(separate.mean() - fused.mean()) < 0.1


def test_where_images_are_decoded(args):
    assert dali.decoder_settings(args) == {'device': 'cpu'}
    args.data_backend, args.dali_nvjpeg_memory_padding = 'dali-gpu', 16
    args.dali_nvjpeg_width_hint, args.dali_nvjpeg_height_hint = 500, 400
    assert dali.decoder_settings(args) == {
        'device': 'mixed',
        'host_memory_padding': 16 << 20,
        'device_memory_padding': 16 << 20,
        'preallocate_width_hint': 500,
        'preallocate_height_hint': 400,
    }


def test_pages_of_the_file_are_let_go(args):
    """Pages of the mapped file that have been read do not stay in memory."""
    records = dali.RecordFile(args.data_train, args.data_train.with_suffix('.idx'), use_mmap=True)
    size = args.data_train.stat().st_size
    for number in range(len(records)):
        bytes(records.read(number).image)
    assert resident_bytes(args.data_train) > 0.8 * size
    records.release()
    assert resident_bytes(args.data_train) < 0.2 * size


def resident_bytes(path):
    """Return how many bytes of a mapped file are in this process's memory, as counted by the kernel."""
    in_mapping, total = False, 0
    for line in Path('/proc/self/smaps').read_text().splitlines():
        if '-' in line.split()[0]:
            in_mapping = line.endswith(str(path))
        elif in_mapping and line.startswith('Rss:'):
            total += int(line.split()[1]) * 1024
    return total


def test_default_backend():
    args = make_args(backend='mxnet')
    changes, notes = data.choose_backend(with_changes(args, data_backend=None))
    assert (changes['data_backend'], notes) == ('dali-cpu', [])
    assert make_args(backend='mxnet').min_random_area == 0.05
    assert make_args(backend='dali-cpu').min_random_area == 0.08
    assert make_args(backend='dali-cpu', min_random_area=0.3).min_random_area == 0.3


def test_augmentation_of_another_backend():
    with pytest.raises(UserError, match='--brightness 0.2: --data-backend dali-cpu cannot do that; .* mxnet'):
        make_args(backend='dali-cpu', brightness=0.2)


POLICIES = ('autoaugment', 'randaugment', 'trivialaugment')


@pytest.mark.parametrize('policy', POLICIES)
def test_automatic_augmentation_of_a_resumed_run(args, monkeypatch, policy):
    """What is drawn depends on the seed, the epoch and the device, but not on threads or on where an epoch begins."""
    monkeypatch.setattr(data, 'local_devices', lambda *_: [mx.cpu(0), mx.cpu(1)])
    plain, labels = read(load(args)[0], 1)
    args.auto_augment = policy
    images, labels_again = read(load(args)[0], 1)
    assert labels_again == labels
    assert not np.array_equal(images, plain)
    for threads, prefetched in ((1, 2), (4, 5)):
        args.dali_threads, args.dali_prefetch_queue = threads, prefetched
        train, _ = load(args)
        np.testing.assert_array_equal(read(train, 1)[0], images)
        train.reset(1, first_step=7)
        rest = [batch.data[0].asnumpy() for batches in train for batch in batches]
        np.testing.assert_array_equal(np.concatenate(rest), images[7 * args.batch_size :])
    assert not np.array_equal(read(train, 2)[0], images)


def test_automatic_augmentation_differs_between_devices_and_images(args, tmp_path, monkeypatch):
    """All images are the same, so only what is drawn can differ."""
    monkeypatch.setattr(data, 'local_devices', lambda *_: [mx.cpu(0), mx.cpu(1)])
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (1, 64, 3))
    args.data_train, args.num_examples = write_records(tmp_path, [ramp] * 64), 64
    args.auto_augment = 'randaugment'
    without_augmentation(args)
    images, _ = read(load(args)[0])
    assert len({image.tobytes() for image in images}) > 40
    of_devices = images.reshape(4, 2, 8, *images.shape[1:])
    assert not np.array_equal(of_devices[:, 0], of_devices[:, 1])


def test_no_temporary_files_remain(args, tmp_path, monkeypatch):
    """Not even until this process ends, since it may be killed."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    args.auto_augment = 'trivialaugment'
    read(load(args)[0])
    assert not list(tmp_path.iterdir())
    assert tempfile.tempdir == str(tmp_path)


def test_magnitude_of_a_reader(args):
    """Another reader may have another magnitude."""
    args.auto_augment = 'randaugment'
    images = {magnitude: read(load(with_changes(args, randaugment_magnitude=magnitude))[0])[0] for magnitude in (5, 28)}
    assert not np.array_equal(images[5], images[28])


def test_validation_images_are_not_augmented(args):
    expected = read(load(args)[1])[0]
    args.auto_augment = 'autoaugment'
    np.testing.assert_array_equal(read(load(args)[1])[0], expected)


@pytest.mark.parametrize('backend', ['mxnet', 'synthetic'])
def test_automatic_augmentation_of_other_backends(backend):
    message = f'--auto-augment autoaugment: --data-backend {backend} cannot do that; use --data-backend dali-cpu'
    with pytest.raises(UserError, match=message):
        make_args(backend=backend, auto_augment='autoaugment')
    make_args(backend=backend, auto_augment='autoaugment', mode=Mode.VAL)


def test_contradicting_automatic_augmentation(args):
    args.randaugment_magnitude = 9
    with pytest.raises(UserError, match='--randaugment-magnitude 9: needs --auto-augment randaugment'):
        data.check_data_args(args)


@pytest.mark.parametrize('backend', ['mxnet', 'synthetic'])
def test_repeated_augmentation_of_other_backends(backend):
    message = f'--repeated-augmentation 3: --data-backend {backend} cannot do that; use --data-backend dali-cpu'
    with pytest.raises(UserError, match=message):
        make_args(backend=backend, repeated_augmentation=3)
    make_args(backend=backend, repeated_augmentation=3, mode=Mode.VAL)


def test_repeated_augmentation(args):
    """Each image is read three times in a row, each time with another crop."""
    args.repeated_augmentation = 3
    images, labels = read(load(args)[0])
    assert len(images) == 240
    for first in range(0, 240, 3):
        assert len(set(labels[first : first + 3])) == 1
        assert not np.array_equal(images[first], images[first + 1])
