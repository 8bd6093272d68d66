"""scripts/prepare_imagenet.sh with ImageNet's archives: the files of a tree, stopping, resuming, progress, memory."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from helpers.commands import PROJECT, assert_user_error, call, peak_memory, succeed
from helpers.datasets import contents, link_copies, wait_until_packed, write_image
from helpers.imagenet_archives import write_archives
from helpers.processes import read_terminal

# Tests stop runs after the first save and before the last image.
IMAGES_OF_A_CLASS, IMAGES_BETWEEN_SAVES = 1000, 512
WORDS = {'n02123045': 'tabby, tabby cat', 'n01440764': 'tench, Tinca tinca'}
PREPARE_IMAGENET = ('scripts/prepare_imagenet.sh',)
PREPARE_DATASET = (sys.executable, PROJECT / 'scripts' / 'prepare_dataset.py')


def write_copies(image, folder, count):
    """Write two classes with many images each as a tree and as archives; return both folders."""
    for number, name in enumerate(WORDS):
        link_copies(image, folder / 'tree' / 'train' / name, count)
        val = folder / 'tree' / 'val' / name
        val.mkdir(parents=True)
        for index in range(10):
            os.link(image, val / f'ILSVRC2012_val_{2 * index + number + 1:08}.JPEG')
    return folder / 'tree', write_archives(folder / 'tree', folder / 'raw', WORDS)


@pytest.fixture(scope='module')
def many(tmp_path_factory):
    """Images that take two milliseconds each: a tree and its archives."""
    folder = tmp_path_factory.mktemp('many')
    return write_copies(write_image(folder / 'a.jpg', 400, 400), folder, IMAGES_OF_A_CLASS)


@pytest.mark.parametrize('program', [PREPARE_IMAGENET, PREPARE_DATASET])
@pytest.mark.parametrize(('end', 'exit_code'), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_resumes_with_the_files_of_the_tree(start, many, tmp_path, program, end, exit_code):
    tree, raw = many
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    process = start(*program, raw, out, stderr=subprocess.PIPE)
    wait_until_packed(process, work, IMAGES_BETWEEN_SAVES)
    process.send_signal(end)
    process.communicate()
    assert process.returncode == exit_code
    assert not out.exists()
    assert 'resuming: ' in succeed(*program, raw, out)
    succeed(*program, tree, tmp_path / 'expected')
    found, expected = contents(out), contents(tmp_path / 'expected')
    for files in (found, expected):
        # It names the folder.
        files.pop('dataset.json', None)
    assert found == expected


def test_archive_that_changes_in_the_meantime(start, many, tmp_path):
    out, work, raw = tmp_path / 'out', tmp_path / '.out.partial', tmp_path / 'raw'
    raw.mkdir()
    for path in many[1].iterdir():
        (raw / path.name).symlink_to(path)
    process = start(*PREPARE_DATASET, raw, out, '--threads', '1', stderr=subprocess.PIPE)
    wait_until_packed(process, work, IMAGES_BETWEEN_SAVES)
    process.kill()
    process.communicate()
    (raw / 'ILSVRC2012_img_train.tar').unlink()
    (raw / 'ILSVRC2012_img_train.tar').write_bytes(b'')
    assert_user_error(call(*PREPARE_DATASET, raw, out), raw, 'files have changed', f'remove {work}')


def test_progress_bars_on_a_terminal(start, many, tmp_path):
    """One while the archives are read, in bytes, and one per image."""
    master, terminal = pty.openpty()
    process = start(*PREPARE_IMAGENET, many[1], tmp_path / 'out', stderr=terminal)
    os.close(terminal)
    shown = read_terminal(master).decode()
    process.communicate()
    assert process.returncode == 0
    assert 'bytes/s' in shown
    assert f'0/{2 * IMAGES_OF_A_CLASS} [' in shown


def test_memory_does_not_grow_with_the_archives(tmp_path):
    image = write_image(tmp_path / 'a.jpg', 8, 8)
    peaks = {}
    for count in (500, 10000):
        _, raw = write_copies(image, tmp_path / str(count), count)
        peaks[count] = peak_memory(*PREPARE_DATASET, raw, tmp_path / f'out{count}')
    assert peaks[10000] < peaks[500] + 20_000_000
