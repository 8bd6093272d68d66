"""What every program does first and last: it finds its interpreter, takes Ctrl-C quietly, and ends at once.

A program begins with

    if __name__ == '__main__':
        from imagenet.common.program import start_program

        start_program('mxnet', 'cv2')

before its other imports, and ends with `run_program(main)`. These programs, this file and what it imports must be valid
syntax for Python 3.6, so that an old interpreter can find the environment's.
"""

import atexit
import importlib.util
import os
import resource
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from imagenet.common.errors import FAILED_EXIT_CODE, INTERRUPTED_EXIT_CODE, UserError, one_line_errors
from imagenet.common.output import open_standard_streams
from imagenet.common.virtualenv import find_python

OLDEST_PYTHON = (3, 8)
# What a small network, or decoding, takes of the kilobytes that `ulimit -v` allows. With less, these libraries abort.
LEAST_KILOBYTES = {'mxnet': 2_000_000, 'cv2': 300_000}
SECONDS_UNTIL_ANOTHER_INTERRUPT = 0.05


def start_program(*packages):
    """Prepare this process for a program that needs some packages: Ctrl-C, standard output, interpreter.

    If the current interpreter lacks a package, the program is started again with the environment's.
    """
    # During imports, an exception would be printed with its traceback, or turned into another one.
    _take_interrupts_with(lambda *_: os._exit(INTERRUPTED_EXIT_CODE))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    open_standard_streams()
    with one_line_errors():
        problem = _problem_of_interpreter(packages)
        if problem is not None:
            _use_environment(problem)
        check_memory_limit(max((LEAST_KILOBYTES.get(name, 0) for name in packages), default=0))


def _take_interrupts_with(handler):
    """Set the handler of Ctrl-C, unless it is ignored, as in the background of a script."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _problem_of_interpreter(packages):
    """Return why the current interpreter cannot run the program, or None if it can."""
    if sys.version_info < OLDEST_PYTHON:
        return 'is older than Python {}.{}'.format(*OLDEST_PYTHON)
    return next((f'has no {name}' for name in packages if importlib.util.find_spec(name) is None), None)


def _use_environment(problem):
    """Start this program again with the environment's interpreter.

    Raises:
        UserError: it is the current one.
    """
    python = find_python()
    # Links are not resolved: an environment's interpreter is a link to the one that created it.
    if Path(python).absolute() == Path(sys.executable).absolute():
        raise UserError(f'{python} {problem}; run scripts/setup.sh, which makes the environment .venv, or activate one')
    replace_program([python, *sys.argv])


def check_memory_limit(least):
    """Raise `UserError` if the address space is limited to less than so many kilobytes."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if resource.RLIM_INFINITY != limit < 1024 * least:
        raise UserError(f'ulimit -v {limit // 1024}: this program needs at least {least}; use ulimit -v unlimited')


def replace_program(command, environment=os.environ):
    """Replace this program by another one of this package, which can take Ctrl-C from its `start_program` on."""
    sys.stdout.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        os.execve(command[0], command, environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_program(main):
    """Call a program's main function, and end the process with its exit code."""
    sys.unraisablehook = _repeat_lost_interrupt
    try:
        with one_line_errors():
            _take_interrupts_with(signal.default_int_handler)
            try:
                main()
            finally:
                sys.stdout.flush()
    except BaseException as error:
        _end_without_waiting(error.code if isinstance(error, SystemExit) else FAILED_EXIT_CODE)
        raise
    _take_interrupts_with(lambda *_: os._exit(INTERRUPTED_EXIT_CODE))


def _repeat_lost_interrupt(unraisable):
    """Interrupt the main thread again if Ctrl-C came in a destructor or a callback, which cannot pass it on."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        threading.Timer(SECONDS_UNTIL_ANOTHER_INTERRUPT, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _end_without_waiting(exit_code):
    """Have this process end as soon as its messages are printed and the files in progress are written.

    After an error, MXNet would first finish all operations that were pushed, or wait for those that can no longer
    finish, and free memory that its threads still use.
    """

    def end():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, UserError):
                stream.flush()
        os._exit(exit_code)

    if exit_code:
        # Python first waits for the threads that write files, and then calls this.
        atexit.register(end)
        # Another Ctrl-C, or the launcher's, would leave a file incomplete or print a traceback of the exit.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
