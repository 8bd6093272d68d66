"""dali.py: features that only this backend has."""

from pathlib import Path

import numpy as np
import pytest

import dali
import data
from helpers.loaders import load, make_args, read
from imagenet.common.errors import UserError
from imagenet.common.options import with_changes


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
