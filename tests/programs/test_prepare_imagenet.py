"""scripts/prepare_digits.py and scripts/prepare_imagenet.sh: from an image tree to record files."""

import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import PROJECT, assert_user_error, call, succeed
from helpers.datasets import FILES, contents, read_records, skipped
from helpers.patience import wait_until
from imagenet.datasets.records import read_index
from imagenet.runtime.compat import mx


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


def test_same_files_as_im2rec(small_tree, small_data, tmp_path):
    """MXNet's own program makes the same bytes, except for classes.txt, which it does not write."""
    program = Path(mx.__file__).parent / 'tools' / 'im2rec.py'
    environment = {'PYTHONPATH': f'{PROJECT}/imagenet/runtime/startup:{PROJECT}'}
    for split, order in (('train', ()), ('val', ('--no-shuffle',))):
        command = sys.executable, program, tmp_path / split, small_tree / split
        succeed(*command, '--list', '--recursive', *order, env=environment)
        succeed(*command, '--pass-through', '--num-thread', '2', env=environment)
    expected = contents(tmp_path)
    assert sorted(expected) == [name for name in FILES if name != 'classes.txt']
    for name, content in expected.items():
        assert (small_data / name).read_bytes() == content, name


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
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, 'skipped.txt'])


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


def test_same_data_set_as_prepare_dataset(tree, tmp_path):
    """From a tree with everything that goes wrong: the same records, the same names, the same files skipped."""
    folder = tree / 'train' / '3_three'
    jpeg = next(folder.glob('*.jpg')).read_bytes()
    for name, content in {
        'empty.jpg': b'',
        'page.jpg': b'<!DOCTYPE html><html>404</html>',
        '._0000.jpg': b'\0\5\x16\7\0\2\0\0Mac OS X        ',
        'cut.jpg': jpeg[:-30],
        'notes.txt': b'no image',
        'a\tb.jpg': jpeg,
        ' space.jpg': jpeg,
        os.fsdecode(b'caf\xe9.jpg'): jpeg,
    }.items():
        (folder / name).write_bytes(content)
    for split in ('train', 'val'):
        (tree / split / '5_five').rename(tree / split / ' five')
        (tree / split / '6_six').rename(tree / split / ' six')
    output = succeed('scripts/prepare_imagenet.sh', tree, tmp_path / 'a')
    succeed(sys.executable, 'scripts/prepare_dataset.py', tree, tmp_path / 'b')
    assert f'files skipped: 6, listed in {tmp_path}/a/skipped.txt' in output
    assert '242 training and 70 validation images, 10 classes' in output
    assert skipped(tmp_path / 'a') == {
        'train/3_three/empty.jpg': 'cannot be decoded',
        'train/3_three/page.jpg': 'cannot be decoded',
        'train/3_three/._0000.jpg': 'a hidden file',
        'train/3_three/cut.jpg': 'cut short',
        'train/3_three/notes.txt': 'not an image, judging by its name',
        'train/3_three/a\\tb.jpg': 'a tab or a line break in its name, which lists cannot hold',
    }
    assert skipped(tmp_path / 'a') == skipped(tmp_path / 'b')
    assert (tmp_path / 'a' / 'classes.txt').read_text().splitlines()[:3] == [' five', ' six', '0_zero']
    for name in ('classes.txt', 'val.rec', 'val.idx', 'val.lst'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
    assert Counter(read_records(tmp_path / 'a', 'train')) == Counter(read_records(tmp_path / 'b', 'train'))
    # The keys of the list are those of the index and of the records.
    keys, offsets = np.loadtxt(tmp_path / 'a' / 'train.idx', dtype=int).T
    listed = [line.split(b'\t') for line in (tmp_path / 'a' / 'train.lst').read_bytes().splitlines()]
    assert [int(key) for key, _, _ in listed] == keys.tolist()
    assert (np.diff(offsets) > 0).all()


@pytest.mark.parametrize('program', [('scripts/prepare_imagenet.sh',), (sys.executable, 'scripts/prepare_dataset.py')])
def test_class_name_that_is_not_utf8(tree, tmp_path, program):
    for split in ('train', 'val'):
        (tree / split / '3_three').rename(tree / split / os.fsdecode(b'caf\xe9'))
    assert_user_error(call(*program, tree, tmp_path / 'out'), 'caf\\udce9: this class name is not valid UTF-8')
    assert not (tmp_path / 'out').exists()


def test_missing_folders(tmp_path):
    assert_user_error(call('scripts/prepare_imagenet.sh', tmp_path / 'none', tmp_path / 'out'), 'no such folder')
    assert_user_error(call('scripts/prepare_imagenet.sh', tmp_path, tmp_path / 'out'), 'train and val')
    assert_user_error(call('scripts/prepare_imagenet.sh'), 'usage')


def test_folder_without_images(tree, tmp_path):
    shutil.rmtree(tree / 'val')
    (tree / 'val' / 'cat').mkdir(parents=True)
    assert_user_error(call('scripts/prepare_imagenet.sh', tree, tmp_path / 'out'), 'val/cat: a class without images')


def test_existing_data_set_is_left_alone(small_tree, small_data):
    before = (small_data / 'train.rec').stat().st_mtime_ns
    assert_user_error(call('scripts/prepare_imagenet.sh', small_tree, small_data), small_data, 'not empty')
    assert (small_data / 'train.rec').stat().st_mtime_ns == before


@pytest.mark.parametrize('stage', ['train.list', 'data/train.rec', 'data/val.rec'])
def test_killed_in_the_middle(start, tree, small_data, tmp_path, stage):
    """The output folder does not exist, and the next try makes the same files as an uninterrupted run."""
    out = tmp_path / 'out'
    command = ['scripts/prepare_imagenet.sh', tree, out]
    process = start(*command)
    wait_until((tmp_path / '.out.partial' / stage).exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    if stage == 'data/val.rec':
        succeed(*command)
        assert contents(out) == contents(small_data)
