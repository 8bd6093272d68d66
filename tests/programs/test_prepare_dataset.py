"""scripts/prepare_dataset.py in a separate process: stopping, resuming, memory, and prepare_imagenet.sh's output."""

import os
import pty
import resource
import signal
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest

from helpers.commands import PROJECT, assert_user_error, call, peak_memory, succeed
from helpers.datasets import (
    FILES,
    contents,
    link_copies,
    paths_in_list,
    read_records,
    skipped,
    wait_until_packed,
    write_classes,
    write_image,
)
from helpers.processes import read_terminal
from imagenet.datasets.records import read_index

# The tests stop runs after the first save and before the last image.
IMAGES_IN_LARGE_TREE, IMAGES_BETWEEN_SAVES = 1800, 512
PROGRAM = PROJECT / 'scripts' / 'prepare_dataset.py'


def prepare(*arguments):
    return succeed(sys.executable, PROGRAM, *arguments)


def try_to_prepare(*arguments, **settings):
    return call(sys.executable, PROGRAM, *arguments, **settings)


@pytest.fixture(scope='session')
def large_tree(tmp_path_factory):
    """Classes with images that take a millisecond each, and with files that are skipped."""
    root = tmp_path_factory.mktemp('large')
    noise = np.random.RandomState(0).randint(0, 256, (200, 200, 3), dtype=np.uint8)
    cv2.imwrite(str(root / 'noise.jpg'), noise)
    for name in ('a', 'b', 'c'):
        link_copies(root / 'noise.jpg', root / 'raw' / name, IMAGES_IN_LARGE_TREE // 3)
        for index in range(10):
            (root / 'raw' / name / f'damaged{index}.jpg').write_text('no image')
        (root / 'raw' / name / 'notes.txt').write_text('no image')
    return root / 'raw'


LARGE_OPTIONS = ('--val-fraction', '0.2', '--threads', '1')


@pytest.fixture(scope='session')
def large_data(large_tree):
    """The files that an uninterrupted run makes from the large tree."""
    out = large_tree.parent / 'data'
    prepare(large_tree, out, *LARGE_OPTIONS, '--threads', '3')
    return out


def test_makes_what_prepare_imagenet_makes(small_tree, small_data, tmp_path):
    out = tmp_path / 'out'
    output = prepare(small_tree, out)
    assert f'{out}: 240 training and 70 validation images, 10 classes' in output
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, 'dataset.json'])
    for name in ('classes.txt', 'val.rec', 'val.idx', 'val.lst'):
        assert (out / name).read_bytes() == (small_data / name).read_bytes()
    records = read_records(out, 'train')
    assert Counter(records) == Counter(read_records(small_data, 'train'))
    # The list matches the records.
    lines = [line.split('\t') for line in (out / 'train.lst').read_text().splitlines()]
    assert [int(key) for key, _, _ in lines] == list(range(240))
    assert records == [(int(float(label)), (small_tree / 'train' / path).read_bytes()) for _, label, path in lines]
    assert (np.diff(read_index(out / 'train.idx')) > 0).all()


def test_nested_classes_in_the_order_of_im2rec(tmp_path):
    for split in ('train-jpeg', 'val-jpeg'):
        write_classes(tmp_path / 'raw' / split, dict.fromkeys(('animal/cat', 'animal', 'animal-x', 'Zoo'), 2))
    prepare(tmp_path / 'raw', tmp_path / 'out')
    succeed('scripts/prepare_imagenet.sh', tmp_path / 'raw', tmp_path / 'expected')
    for name in ('classes.txt', 'val.rec'):
        assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'expected' / name).read_bytes()
    assert (tmp_path / 'out' / 'classes.txt').read_text().splitlines() == ['Zoo', 'animal', 'animal/cat', 'animal-x']


def test_odd_names(split_tree, tmp_path):
    folder = split_tree / 'val' / 'cat'
    jpeg = (folder / '0.jpg').read_bytes()
    out = tmp_path / os.fsdecode(b'\xe9')
    latin = os.fsdecode(b'caf\xe9.jpg')
    for name in ('a\tb.jpg', 'a\nb.jpg', 'a\u2028b.jpg', 'ü ñ.jpg', latin, os.fsdecode(b'\xe9.txt')):
        (folder / name).write_bytes(jpeg)
    prepare(split_tree, out)
    found = skipped(out)
    assert set(found) == {'val/cat/a\\tb.jpg', 'val/cat/a\\nb.jpg', 'val/cat/a\\u2028b.jpg', 'val/cat/\\udce9.txt'}
    assert 'a tab or a line break' in found['val/cat/a\\tb.jpg']
    listed = (out / 'val.lst').read_bytes().splitlines()
    assert sum(line.endswith((b'\tcat/caf\xe9.jpg', '\tcat/ü ñ.jpg'.encode())) for line in listed) == 2
    # MXNet cannot open files in a folder with such a name.
    out.rename(tmp_path / 'out')
    assert len(read_records(tmp_path / 'out', 'val')) == 10


def test_shuffling_leaves_no_order(large_data):
    """Of two successive images, the second comes from a later place in the tree about half of the time."""
    order = np.argsort(np.argsort(paths_in_list(large_data, 'train')))
    assert 0.45 < (np.diff(order) > 0).mean() < 0.55


def test_killed_run_goes_on(start, large_tree, large_data, tmp_path):
    """Three runs, two of them killed, make the same files as one uninterrupted run."""
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    for num_done in (IMAGES_BETWEEN_SAVES, 2 * IMAGES_BETWEEN_SAVES):
        process = start(sys.executable, PROGRAM, large_tree, out, *LARGE_OPTIONS, stderr=subprocess.PIPE)
        wait_until_packed(process, work, num_done)
        process.kill()
        process.communicate()
        assert not out.exists()
    output = prepare(large_tree, out, *LARGE_OPTIONS)
    (line,) = (line for line in output.splitlines() if line.startswith('resuming: '))
    assert 2 * IMAGES_BETWEEN_SAVES * 0.9 < int(line.split()[1]) <= IMAGES_IN_LARGE_TREE
    assert contents(out) == contents(large_data)
    assert not work.exists()


def test_interrupted_run_goes_on(start, large_tree, large_data, tmp_path):
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    process = start(sys.executable, PROGRAM, large_tree, out, *LARGE_OPTIONS, stderr=subprocess.PIPE)
    wait_until_packed(process, work, IMAGES_BETWEEN_SAVES)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors == f'interrupted: the work so far is kept in {work}, and the same command resumes from there\n'
    # The number of threads does not affect the files.
    assert 'resuming: ' in prepare(large_tree, out, *LARGE_OPTIONS, '--threads', '2')
    assert contents(out) == contents(large_data)


def test_full_disk(large_tree, large_data, tmp_path):
    """A limit on the size of files has the same effect as a full disk."""
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    limit = (large_data / 'train.rec').stat().st_size * 2 // 3

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    result = try_to_prepare(large_tree, out, *LARGE_OPTIONS, preexec_fn=limit_files)
    assert_user_error(result, work, 'cannot write', 'the work so far is kept')
    assert not out.exists()
    assert 'resuming: ' in prepare(large_tree, out, *LARGE_OPTIONS)
    assert contents(out) == contents(large_data)


def test_stopped_run_keeps_others_out(start, large_tree, large_data, tmp_path):
    """It keeps out a second run at the same time, and later a run with other options."""
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    process = start(sys.executable, PROGRAM, large_tree, out, *LARGE_OPTIONS, stderr=subprocess.PIPE)
    wait_until_packed(process, work, IMAGES_BETWEEN_SAVES)
    process.send_signal(signal.SIGSTOP)
    assert_user_error(try_to_prepare(large_tree, out, *LARGE_OPTIONS), work, 'in use by another run')
    process.kill()
    process.communicate()
    result = try_to_prepare(large_tree, out, *LARGE_OPTIONS, '--seed', '5')
    assert_user_error(result, work, 'other options', 'seed was 0, is 5', 'remove')
    result = try_to_prepare(large_tree.parent, out, *LARGE_OPTIONS)
    assert_user_error(result, 'other options', large_tree.parent)
    prepare(large_tree, out, *LARGE_OPTIONS)
    assert contents(out) == contents(large_data)


def test_progress_bar_on_a_terminal(start, split_tree, tmp_path):
    (split_tree / 'train' / 'cat' / 'cut.jpg').write_bytes((split_tree / 'train' / 'cat' / '0.jpg').read_bytes()[:-50])
    master, terminal = pty.openpty()
    process = start(sys.executable, PROGRAM, split_tree, tmp_path / 'out', stderr=terminal)
    os.close(terminal)
    shown = read_terminal(master).decode()
    process.communicate()
    assert process.returncode == 0
    assert '0/9 [' in shown
    assert 'images/s' in shown
    assert 'JPEG' not in shown


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    source = write_image(tmp_path / 'source.jpg', 8, 8)
    peaks = {}
    for count in (1000, 20000):
        raw = tmp_path / str(count)
        for number in range(10):
            link_copies(source, raw / f'class{number}', count // 10)
        peaks[count] = peak_memory(sys.executable, PROGRAM, raw, tmp_path / f'out{count}', '--val-fraction', '0.1')
    assert peaks[20000] < peaks[1000] + 20_000_000
