"""User errors and exit codes. A message is one line: the option or file, what is wrong, and what to do."""

import errno
import os
import sys
import traceback
from contextlib import contextmanager

from imagenet.common.text import printable

FAILED_EXIT_CODE = 1
USER_ERROR_EXIT_CODE = 2
NON_FINITE_EXIT_CODE = 3
LOST_PROCESS_EXIT_CODE = 4
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141
TERMINATED_EXIT_CODE = 143
# If this environment variable is set, errors of libraries are shown with their traceback.
TRACEBACK_VARIABLE = 'TRACEBACK'


class UserError(Exception):
    """An error that the user can fix: a wrong option, a missing or damaged file, an impossible combination.

    The message is one line: what is wrong, and what to do. `one_line_errors` prints it instead of a traceback.
    """

    exit_code = USER_ERROR_EXIT_CODE


class NonFiniteError(UserError):
    """The loss became NaN or infinite; the run ends with exit code 3."""

    exit_code = NON_FINITE_EXIT_CODE


class LostProcessError(UserError):
    """Another rank died, so this one stops; the other rank's message names the cause."""

    exit_code = LOST_PROCESS_EXIT_CODE


class StoppedError(UserError):
    """A signal such as SIGTERM ended the run before its product was complete; exit code 143, as shells expect."""

    exit_code = TERMINATED_EXIT_CODE


# Libraries whose exceptions are not bugs of this package, by the first part of the module of the exception's class.
LIBRARIES = {'mxnet': 'MXNet', 'cv2': 'OpenCV', 'nvidia': 'DALI', 'horovod': 'Horovod', 'onnxruntime': 'ONNX Runtime'}
# How MXNet, OpenCV, DALI and Python report that memory is used up.
OUT_OF_MEMORY = (
    'bad_alloc',
    'Failed to allocate',
    'Insufficient memory',
    'Cannot allocate memory',
    'out of memory',
    "can't start new thread",
)
# System errors that are not about a single file.
SYSTEM_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def describe_error(error):
    """Return (message, exit code) of an exception that ends the program, or None if it is a bug, to be traced.

    The message is None if nothing is to be said.
    """
    if isinstance(error, UserError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return None, INTERRUPTED_EXIT_CODE
    if isinstance(error, BrokenPipeError):
        return None, BROKEN_PIPE_EXIT_CODE
    library, reason = _library(error), reason_of(error)
    if is_out_of_memory(error):
        return f'out of memory ({reason}); use a smaller batch (-b) or fewer workers', FAILED_EXIT_CODE
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}', USER_ERROR_EXIT_CODE
    if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
        return error.strerror, USER_ERROR_EXIT_CODE
    if library is not None or isinstance(error, RecursionError):
        return f'{library or "Python"} failed: {reason}; {TRACEBACK_VARIABLE}=1 shows where', FAILED_EXIT_CODE
    return None


def reason_of(error):
    """Return the line of an exception's message that says what is wrong: for the libraries here, the last one."""
    lines = str(error).split('Stack trace')[0].strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def is_out_of_memory(error):
    """Return whether an exception, of Python or of a library, says that memory is used up."""
    if isinstance(error, MemoryError):
        return True
    is_of_library = _library(error) is not None or isinstance(error, (OSError, RuntimeError))
    return is_of_library and any(words in str(error) for words in OUT_OF_MEMORY)


def _library(error):
    return LIBRARIES.get(type(error).__module__.split('.')[0])


@contextmanager
def one_line_errors(show=True):
    """End the program with one line on stderr and an exit code if the block raises an exception that is not a bug.

    See `describe_error`. Ctrl-C ends it with exit code 130, a closed output pipe with 141, as shells expect.

    Args:
        show: whether this process prints the line: a bool, or a function that is called when the error occurs. If many
            workers fail with the same error, one line is enough.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        described = describe_error(error)
        if described is None:
            raise
        message, exit_code = described
        if message is not None and (show() if callable(show) else show):
            if TRACEBACK_VARIABLE in os.environ and not isinstance(error, UserError):
                traceback.print_exc()
            print(f'error: {printable(message)}', file=sys.stderr, flush=True)
        sys.exit(exit_code)
