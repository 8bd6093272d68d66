"""scripts/check_dataset.py in a separate process: interrupted, on a full disk, and with names that are not UTF-8."""

import os
import pty
import shutil
import signal
import sys

import cv2
import numpy as np
import pytest

from helpers.commands import assert_user_error, call
from helpers.processes import read_terminal
from helpers.record_files import assert_well, edit_index, write_records
from imagenet.datasets.records import pack_image

COMMAND = [sys.executable, 'scripts/check_dataset.py']


@pytest.fixture
def folder(small_data, tmp_path):
    return shutil.copytree(small_data, tmp_path / 'data')


def check(*arguments, **settings):
    return call(*COMMAND, *arguments, **settings)


def test_copy_that_cannot_be_written_leaves_nothing(folder):
    edit_index(folder, lambda lines: lines.pop())
    command = ' '.join(['ulimit -f 64; exec', *COMMAND, '"$0" --repair "$1"'])
    result = call('bash', '-c', command, folder, folder.parent / 'new')
    assert_user_error(result, f'{folder.parent}/new: cannot make this copy (File too large)')
    assert sorted(path.name for path in folder.parent.iterdir()) == ['data']


def test_odd_names(small_data, tmp_path):
    folder = tmp_path / os.fsdecode(b"two  words'\xff\xe9")
    shutil.copytree(small_data, folder)
    edit_index(folder, lambda lines: lines.pop())
    assert check(folder, '--repair', tmp_path / 'ü').returncode == 1
    assert_well(tmp_path / 'ü')


def test_interrupt(start, tmp_path):
    """The progress bar is already on the terminal, and decoding all the images would take half a minute."""
    _, image = cv2.imencode('.png', np.zeros((3000, 3000, 3), dtype=np.uint8))
    write_records(tmp_path, range(1000), [pack_image(key, 0, image.tobytes()) for key in range(1000)], 'train')
    master, terminal = pty.openpty()
    command = [*COMMAND, tmp_path, '--repair', tmp_path / 'new']
    process = start(*command, stderr=terminal, text=False)
    os.close(terminal)
    shown = b''
    while shown.count(b'train.rec') < 2:
        shown += os.read(master, 4096)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    shown += read_terminal(master)
    assert process.returncode == 130, (output, shown)
    assert output == b''
    assert b'Traceback' not in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ['train.idx', 'train.rec']
