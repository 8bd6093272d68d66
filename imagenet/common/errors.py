"""User errors and exit codes. A message is one line: the option or file, what is wrong, and what to do."""

import os
import sys
from contextlib import contextmanager

from imagenet.common.text import printable

FAILED_EXIT_CODE = 1
USER_ERROR_EXIT_CODE = 2
NON_FINITE_EXIT_CODE = 3
LOST_PROCESS_EXIT_CODE = 4
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141


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


def exit_code_of(error):
    """Return the exit code of a program that ends with this exception."""
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_EXIT_CODE
    return BROKEN_PIPE_EXIT_CODE if isinstance(error, BrokenPipeError) else FAILED_EXIT_CODE


@contextmanager
def one_line_errors(show=True):
    """End the program with one line on stderr and the error's exit code if the block raises a `UserError`.

    Ctrl-C ends it with exit code 130, a closed output pipe with 141, as shells expect.

    Args:
        show: whether this process prints the line: a bool, or a function that is called when the error occurs. If many
            workers fail with the same error, one line is enough.
    """
    try:
        yield
    except UserError as error:
        if show() if callable(show) else show:
            print(f'error: {printable(error)}', file=sys.stderr, flush=True)
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt as error:
        sys.exit(exit_code_of(error))
    except BrokenPipeError as error:
        # Otherwise Python would raise again when it flushes its output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exit_code_of(error))
