"""CPU affinity of threads."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

from imagenet.launcher import ranks
from imagenet.launcher.cores import own_cores

# Determined before MXNet is imported, because compat.py imports this module first. OpenMP then pins the importing
# thread to one core, which hides the others.
OWN_CORES = own_cores(ranks.local_rank(), ranks.local_size())


def run_on_all_cores():
    """Let the calling thread run on all of this process's cores.

    OpenMP binds the thread that imports MXNet to one core, and a new thread inherits this from the thread that starts
    it.
    """
    os.sched_setaffinity(0, OWN_CORES)


@contextmanager
def threads_on_all_cores():
    """Let all threads that a library starts in the block run on all of this process's cores."""
    before = _thread_ids()
    yield
    for thread in _thread_ids() - before:
        # The thread may have ended since.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, OWN_CORES)


def _thread_ids():
    return {int(entry.name) for entry in Path('/proc/self/task').iterdir()}


def computing_threads():
    """Return the number of threads with which MXNet computes: OMP_NUM_THREADS if it is set, else all cores."""
    wanted = os.environ.get('OMP_NUM_THREADS', '').split(',')[0]
    return min(int(wanted), len(OWN_CORES)) if wanted.isdigit() and int(wanted) else len(OWN_CORES)


def available_cores():
    """Return the number of this process's cores."""
    return len(OWN_CORES)
