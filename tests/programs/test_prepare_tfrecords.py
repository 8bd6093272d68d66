"""scripts/prepare_dataset.py with TFRecords, in a separate process: stopping, resuming, memory, im2rec's order."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from helpers.commands import PROJECT, assert_user_error, call, peak_memory, succeed
from helpers.datasets import contents, wait_until_packed, write_image
from helpers.processes import read_terminal
from helpers.tfrecords import imagenet_example, write_shards, write_tree_as_tfrecords

# Tests stop runs after the first save and before the last image.
TRAINING_IMAGES, IMAGES_BETWEEN_SAVES = 1500, 512
PROGRAM = PROJECT / 'scripts' / 'prepare_dataset.py'


def prepare(*arguments):
    return succeed(sys.executable, PROGRAM, *arguments)


def write_copies(image, folder, count):
    """Write many images of two classes, some of them damaged, as TFRecords."""
    examples = [
        imagenet_example(image, index % 2 + 1, b'n%08d' % (index % 2), filename=b'%06d.jpg' % (index * 7919 % count))
        for index in range(count)
    ]
    damaged = imagenet_example(image, 1, b'n00000000', encoded=image.read_bytes()[:-50])
    write_shards(folder, 'train', [*examples, damaged], 4)
    write_shards(folder, 'validation', examples[:20], 2)
    return folder


@pytest.fixture(scope='module')
def many(tmp_path_factory):
    """Images that take a millisecond each."""
    folder = tmp_path_factory.mktemp('many')
    return write_copies(write_image(folder / 'a.jpg', 300, 300), folder / 'raw', TRAINING_IMAGES)


@pytest.fixture(scope='module')
def expected(many):
    """The files that an uninterrupted run makes."""
    prepare(many, many.parent / 'data')
    return contents(many.parent / 'data')


@pytest.mark.parametrize(('end', 'exit_code'), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_resumes(start, many, expected, tmp_path, end, exit_code):
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    process = start(sys.executable, PROGRAM, many, out, '--threads', '1', stderr=subprocess.PIPE)
    wait_until_packed(process, work, IMAGES_BETWEEN_SAVES)
    process.send_signal(end)
    process.communicate()
    assert process.returncode == exit_code
    assert not out.exists()
    assert 'resuming: ' in prepare(many, out)
    assert contents(out) == expected
    assert not work.exists()


def test_interrupted_while_it_reads_the_files(start, many, tmp_path):
    """Nothing is worth keeping then. If it has already begun to pack, it keeps that."""
    process = start(sys.executable, PROGRAM, many, tmp_path / 'out', stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith('listing ')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == '' or errors.startswith('interrupted: ')
    assert not (tmp_path / 'out').exists()


def test_files_that_change_in_the_meantime(start, many, tmp_path):
    raw, out, work = tmp_path / 'raw', tmp_path / 'out', tmp_path / '.out.partial'
    raw.mkdir()
    for path in many.iterdir():
        (raw / path.name).write_bytes(path.read_bytes())
    process = start(sys.executable, PROGRAM, raw, out, '--threads', '1', stderr=subprocess.PIPE)
    wait_until_packed(process, work, IMAGES_BETWEEN_SAVES)
    process.kill()
    process.communicate()
    path = raw / 'validation-00001-of-00002'
    path.write_bytes(path.read_bytes()[:-1])
    assert_user_error(call(sys.executable, PROGRAM, raw, out), raw, 'files have changed', f'remove {work}')


def test_prepare_imagenet(tmp_path):
    for split, count in (('train', 20), ('val', 6)):
        for index in range(count):
            name = f'n0000000{index % 2}'
            write_image(tmp_path / 'tree' / split / name / f'{name}_{index}.JPEG', seed=index)
    raw = write_tree_as_tfrecords(tmp_path / 'tree', tmp_path / 'raw')
    succeed('scripts/prepare_imagenet.sh', tmp_path / 'tree', tmp_path / 'expected')
    succeed('scripts/prepare_imagenet.sh', raw, tmp_path / 'out')
    assert contents(tmp_path / 'out') == contents(tmp_path / 'expected')


def test_progress_bars_on_a_terminal(start, many, tmp_path):
    """One while the files are read, in bytes, and one per image."""
    master, terminal = pty.openpty()
    process = start(sys.executable, PROGRAM, many, tmp_path / 'out', stderr=terminal)
    os.close(terminal)
    shown = read_terminal(master).decode()
    process.communicate()
    assert process.returncode == 0
    assert 'bytes/s' in shown
    assert f'0/{TRAINING_IMAGES + 1} [' in shown
    assert 'images/s' in shown


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    image = write_image(tmp_path / 'a.jpg', 8, 8)
    peaks = {}
    for count in (1000, 20000):
        raw = write_copies(image, tmp_path / str(count), count)
        peaks[count] = peak_memory(sys.executable, PROGRAM, raw, tmp_path / f'out{count}')
    assert peaks[20000] < peaks[1000] + 20_000_000
