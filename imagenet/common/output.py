"""Standard output and standard error, which may go away: a closed terminal or pipe, a full disk.

Programs whose product is their output end: quietly if nobody reads it any more, with a line if it cannot be written.
Programs whose product is a file call `continue_without_output`. Either way, nothing raises a second time.
"""

import errno
import io
import os
import sys

from imagenet.common.errors import UserError

NAMES = {1: 'standard output', 2: 'standard error'}

_continues = False
# Lines about the streams that went away since `new_losses` was last called.
_losses = []


class _Stream(io.FileIO):
    """The file below `sys.stdout` or `sys.stderr`. From the first error on, it discards what is written."""

    def __init__(self, descriptor, name):
        super().__init__(descriptor, 'w', closefd=False)
        self._stream_name = name
        self._is_lost = False

    def write(self, data):
        if self._is_lost:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._is_lost = True
            reason = 'it is closed' if error.errno == errno.EBADF else error.strerror
            _losses.append(f'{self._stream_name} cannot be written: {reason}')
            # Who closes a stream from the start wants no output. An error in writing errors cannot be shown.
            if not (_continues or error.errno == errno.EBADF or self._stream_name == NAMES[2]):
                _raise(error)
            return len(data)


def _raise(error):
    if isinstance(error, BrokenPipeError):
        raise error
    raise UserError(f'{NAMES[1]}: cannot be written ({error.strerror})') from None


def open_stream(descriptor, like, name):
    """Return a text stream that writes to a descriptor, with the settings of another stream; None: Python's own."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(descriptor, name)),
        encoding=getattr(like, 'encoding', None),
        # File names may not be valid text.
        errors='backslashreplace' if getattr(like, 'errors', 'strict') == 'strict' else like.errors,
        # `python -u` sets `write_through`.
        line_buffering=like is None or name == NAMES[2] or like.line_buffering or like.write_through,
    )


def open_standard_streams():
    """Replace `sys.stdout` and `sys.stderr` by streams that may go away, and occupy descriptors that are closed.

    Otherwise the next file to be opened would get such a descriptor, and libraries would write messages into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor is this one. Writing to it fails, in the programs that this one starts, too.
            os.open(os.devnull, os.O_RDONLY)
            os.set_inheritable(descriptor, True)
    sys.stdout = sys.__stdout__ = open_stream(1, sys.stdout, NAMES[1])
    sys.stderr = sys.__stderr__ = open_stream(2, sys.stderr, NAMES[2])


def continue_without_output():
    """Let the program continue if a stream goes away; `new_losses` has a line about it."""
    global _continues
    _continues = True


def new_losses():
    """Return a line for each stream that went away since the last call."""
    lines = _losses[:]
    del _losses[:]
    return lines
