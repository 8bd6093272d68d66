"""errors.py: which exceptions end a program with a line, and which are bugs."""

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from imagenet.common.errors import (
    BROKEN_PIPE_EXIT_CODE,
    FAILED_EXIT_CODE,
    INTERRUPTED_EXIT_CODE,
    TRACEBACK_VARIABLE,
    USER_ERROR_EXIT_CODE,
    UserError,
    one_line_errors,
)
from imagenet.runtime.compat import mx


def end_with(capsys, fail):
    """Return the exit code of a program that fails, and its only line on stderr."""
    with pytest.raises(SystemExit) as end, one_line_errors():
        fail()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 1
    return end.value.code, lines[0] if lines else None


def throw(error):
    def fail():
        raise error

    return fail


def fail_in_mxnet():
    mx.nd.concat(mx.nd.ones((2, 3)), mx.nd.ones((4, 5)), dim=0).wait_to_read()


def fail_in_opencv():
    cv2.resize(np.zeros((0, 0, 3), np.uint8), (3, 3))


def recurse():
    recurse()


def open_missing_file():
    Path('/nowhere/at all').read_bytes()


@pytest.mark.parametrize(
    ('fail', 'code', 'beginning'),
    [
        (throw(UserError('--lr 0: too small')), USER_ERROR_EXIT_CODE, 'error: --lr 0: too small'),
        (open_missing_file, USER_ERROR_EXIT_CODE, 'error: /nowhere/at all: No such file or directory'),
        (throw(OSError(errno.ENOSPC, 'No space left')), USER_ERROR_EXIT_CODE, 'error: No space left'),
        (fail_in_mxnet, FAILED_EXIT_CODE, 'error: MXNet failed: '),
        (fail_in_opencv, FAILED_EXIT_CODE, 'error: OpenCV failed: '),
        (recurse, FAILED_EXIT_CODE, 'error: Python failed: maximum recursion depth exceeded'),
        (throw(MemoryError()), FAILED_EXIT_CODE, 'error: out of memory'),
        (
            throw(mx.base.MXNetError('x\nFailed to allocate CPU Memory')),
            FAILED_EXIT_CODE,
            'error: out of memory',
        ),
        (throw(RuntimeError("can't start new thread")), FAILED_EXIT_CODE, 'error: out of memory'),
        (throw(OSError(errno.ENOMEM, 'Cannot allocate memory')), FAILED_EXIT_CODE, 'error: out of memory'),
        (throw(KeyboardInterrupt()), INTERRUPTED_EXIT_CODE, None),
        (throw(BrokenPipeError()), BROKEN_PIPE_EXIT_CODE, None),
    ],
)
def test_line_and_exit_code(capsys, fail, code, beginning):
    found, line = end_with(capsys, fail)
    assert found == code
    assert line == beginning or line.startswith(beginning)


@pytest.mark.parametrize('error', [TypeError('not a number'), OSError('no file'), RuntimeError('a bug')])
def test_bugs_keep_their_traceback(error):
    with pytest.raises(type(error)), one_line_errors():
        raise error


def test_control_characters_are_escaped(capsys):
    _, line = end_with(capsys, throw(UserError('cat\n\x1b[31m\udcff.jpg: not an image')))
    assert line == r'error: cat\n\x1b[31m\udcff.jpg: not an image'


def test_traceback_of_a_library_on_request(capsys, monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, '1')
    with pytest.raises(SystemExit), one_line_errors():
        fail_in_opencv()
    lines = capsys.readouterr().err.splitlines()
    assert any('in fail_in_opencv' in line for line in lines)
    assert lines[-1].startswith('error: OpenCV failed: ')


def test_line_that_another_rank_prints(capsys):
    with pytest.raises(SystemExit), one_line_errors(show=lambda: False):
        raise UserError('the same on all ranks')
    assert capsys.readouterr().err == ''
