"""scripts/prepare_digits.py and scripts/prepare_imagenet.sh: from an image tree to record files."""

import os
import shutil
import signal
from collections import Counter

import numpy as np
import pytest

from helpers.commands import PROJECT, assert_user_error, call, succeed
from helpers.datasets import FILES, read_records
from helpers.patience import wait_until
from imagenet.common.errors import UserError
from imagenet.datasets import splits
from imagenet.datasets.records import read_index


@pytest.fixture
def tree(small_tree, tmp_path):
    return shutil.copytree(small_tree, tmp_path / 'raw')


def test_digits(digits_tree):
    counts = {
        split: Counter(path.parent.name for path in (digits_tree / split).glob('*/*.jpg')) for split in ('train', 'val')
    }
    assert len(counts['train']) == len(counts['val']) == 10
    assert set(counts['train'].values()) == {400}
    assert set(counts['val'].values()) == {100}


def test_digits_are_always_split_alike(digits_tree, tmp_path):
    succeed(PROJECT / '.venv' / 'bin' / 'python', 'scripts/prepare_digits.py', tmp_path)
    names = [sorted(path.relative_to(root) for path in root.rglob('*.jpg')) for root in (digits_tree, tmp_path)]
    assert names[0] == names[1]


def test_record_files_hold_the_tree_untouched(small_tree, small_data):
    assert sorted(path.name for path in small_data.iterdir()) == FILES
    classes = (small_data / 'classes.txt').read_text().splitlines()
    assert classes == sorted(folder.name for folder in (small_tree / 'train').iterdir())
    for split in ('train', 'val'):
        expected = {(classes.index(path.parent.name), path.read_bytes()) for path in (small_tree / split).glob('*/*')}
        records = read_records(small_data, split)
        assert len(records) == len(expected)
        assert set(records) == expected


def test_training_list_is_shuffled(small_data):
    in_list = [line.split('\t')[1] for line in (small_data / 'train.lst').read_text().splitlines()]
    assert in_list != sorted(in_list)
    # The index has the keys in the order of the list, and the offsets increase in the same order.
    keys_in_list = [line.split('\t')[0] for line in (small_data / 'train.lst').read_text().splitlines()]
    keys_in_file = [line.split('\t')[0] for line in (small_data / 'train.idx').read_text().splitlines()]
    assert keys_in_list == keys_in_file
    offsets = read_index(small_data / 'train.idx')
    assert (np.diff(offsets) > 0).all()


def test_jpeg_suffixed_splits_and_other_files(tree, tmp_path):
    for split in ('train', 'val'):
        (tree / split).rename(tree / f'{split}-jpeg')
    (tree / 'train-jpeg' / '3_three' / 'notes.txt').write_text('no image')
    out = tmp_path / 'out'
    output = succeed('scripts/prepare_imagenet.sh', tree, out)
    assert '240 training and 70 validation images, 10 classes' in output
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_different_classes(tree, tmp_path):
    (tree / 'val' / '3_three').rename(tree / 'val' / 'three')
    result = call('scripts/prepare_imagenet.sh', tree, tmp_path / 'out')
    assert_user_error(result, 'different classes', 'only in train: 3_three', 'only in val: three')
    assert not (tmp_path / 'out').exists()


def test_images_outside_of_class_folders(tmp_path, tree):
    for split in ('train', 'val'):
        image = next((tree / split).glob('*/*.jpg'))
        flat = tmp_path / 'flat' / split
        flat.mkdir(parents=True)
        shutil.copy(image, flat)
    assert_user_error(call('scripts/prepare_imagenet.sh', tmp_path / 'flat', tmp_path / 'out'), 'a folder per class')


def test_name_that_the_list_cannot_hold(tree, tmp_path):
    image = next((tree / 'val').glob('*/*.jpg'))
    image.rename(image.with_name('a\tb.jpg'))
    assert_user_error(call('scripts/prepare_imagenet.sh', tree, tmp_path / 'out'), image.parent.name, 'tab')
    assert not (tmp_path / 'out').exists()


def test_missing_folders(tmp_path):
    assert_user_error(call('scripts/prepare_imagenet.sh', tmp_path / 'none', tmp_path / 'out'), 'no such folder')
    assert_user_error(call('scripts/prepare_imagenet.sh', tmp_path, tmp_path / 'out'), 'train and val')
    assert_user_error(call('scripts/prepare_imagenet.sh'), 'usage')


def test_folder_without_images(tree, tmp_path):
    shutil.rmtree(tree / 'val')
    (tree / 'val' / 'cat').mkdir(parents=True)
    assert_user_error(call('scripts/prepare_imagenet.sh', tree, tmp_path / 'out'), 'no .jpg, .jpeg or .png image')


def test_existing_data_set_is_left_alone(small_tree, small_data):
    before = (small_data / 'train.rec').stat().st_mtime_ns
    assert_user_error(call('scripts/prepare_imagenet.sh', small_tree, small_data), small_data, 'not empty')
    assert (small_data / 'train.rec').stat().st_mtime_ns == before


def test_image_that_was_not_packed(small_data, tmp_path):
    folder = shutil.copytree(small_data, tmp_path / 'data')
    with (folder / 'val.lst').open('a') as lines:
        lines.write('70\t0.000000\t0_zero/unreadable.jpg\n')
    with pytest.raises(UserError, match='1 of 71 val images could not be read'):
        splits.check_records(folder, 'raw')


@pytest.mark.parametrize('stage', ['train.lst', 'train.rec', 'val.rec'])
def test_killed_in_the_middle(start, tree, tmp_path, stage):
    """The output folder does not exist, and the next try works."""
    out = tmp_path / 'out'
    command = ['scripts/prepare_imagenet.sh', tree, out]
    process = start(*command)
    wait_until((tmp_path / '.out.partial' / stage).exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    if stage == 'val.rec':
        succeed(*command)
        assert sorted(path.name for path in out.iterdir()) == FILES
