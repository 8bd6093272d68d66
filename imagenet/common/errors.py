"""What went wrong, for people: one line that names the option or file, what was found, and what to do."""

import os
import sys
from contextlib import contextmanager

FAILED_EXIT_CODE = 1
USER_ERROR_EXIT_CODE = 2
NON_FINITE_EXIT_CODE = 3
LOST_PROCESS_EXIT_CODE = 4
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141


class UserError(Exception):
    """A mistake that the user can mend: a wrong option, a missing or damaged file, an impossible combination.

    The message is a single line that says what was wrong and what to do. `one_line_errors` shows it in place of a
    traceback.
    """

    exit_code = USER_ERROR_EXIT_CODE


class NonFiniteError(UserError):
    """Training has come to numbers that are none; it ends with an exit code of its own."""

    exit_code = NON_FINITE_EXIT_CODE


class LostProcessError(UserError):
    """Another process of the run has ended, so this one has to; what that one says is the cause."""

    exit_code = LOST_PROCESS_EXIT_CODE


@contextmanager
def one_line_errors(show=True):
    """Ends the program with one line on stderr and the error's exit code where the block raises a `UserError`.

    Ctrl-C ends it with exit code 130, and a reader of its output that is gone with 141, as a shell expects.

    Args:
        show: a callable or bool, asked at the time of the error, that says whether this process prints the line;
            of many workers with the same mistake, one is enough.
    """
    try:
        yield
    except UserError as error:
        if show() if callable(show) else show:
            print(f'error: {error}', file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_EXIT_CODE)
    except BrokenPipeError:
        # What Python still has to write at its end would raise once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE_EXIT_CODE)
