"""CPU affinity of threads."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

from imagenet.runtime import compat


def run_on_all_cores():
    """Lets the calling thread run on all of this process's cores.

    OpenMP binds the thread that imports MXNet to one core, and threads inherit that from the one that starts them.
    """
    os.sched_setaffinity(0, compat.own_cores)


@contextmanager
def threads_on_all_cores():
    """`run_on_all_cores` for all threads that a library starts in the block."""
    before = _thread_ids()
    yield
    for thread in _thread_ids() - before:
        # A thread that has ended since is not missed.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, compat.own_cores)


def _thread_ids():
    return {int(entry.name) for entry in Path('/proc/self/task').iterdir()}


def available_cores():
    """The number of this process's own cores."""
    return len(compat.own_cores)
