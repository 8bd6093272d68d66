"""Captures what the libraries for JPEG, PNG and so on print on stderr while they decode damaged images."""

import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager

from imagenet.common.output import NAMES, open_stream

STDERR = 2


class Messages:
    """The messages so far, in a file that grows."""

    def __init__(self, file):
        self._file = file

    def size(self):
        """Return the number of bytes printed so far."""
        return os.fstat(self._file.fileno()).st_size

    def after(self, position):
        """Return what was printed after this number of bytes."""
        return os.pread(self._file.fileno(), self.size() - position, position)


@contextmanager
def captured_messages():
    """Capture the messages of libraries during the block. What Python prints on stderr is still shown.

    Yields:
        `Messages`; all threads print to the same file.
    """
    with tempfile.TemporaryFile() as file, ExitStack() as stack:
        # Without stderr, the number may belong to another file.
        if sys.stderr is not None:
            stack.enter_context(_redirected_stderr(file))
        yield Messages(file)


@contextmanager
def _redirected_stderr(file):
    before = sys.stderr
    before.flush()
    shown = os.dup(STDERR)
    os.dup2(file.fileno(), STDERR)
    if before.fileno() == STDERR:
        sys.stderr = open_stream(shown, before, NAMES[STDERR])
    try:
        yield
    finally:
        sys.stderr = before
        os.dup2(shown, STDERR)
        os.close(shown)
