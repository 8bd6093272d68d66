"""This process's rank and the world size, from environment variables that the launcher sets.

Uses the standard library only, because the launcher imports it too. It works before anything is initialized.
"""

import os

# horovodrun and our launcher set the first variable, mpirun the second.
RANK = ('HOROVOD_RANK', 'OMPI_COMM_WORLD_RANK')
SIZE = ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE')
LOCAL_RANK = ('HOROVOD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK')
LOCAL_SIZE = ('HOROVOD_LOCAL_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE')


def is_from_mpirun():
    """Return whether mpirun, and not horovodrun or our launcher, has started this process."""
    return RANK[0] not in os.environ and RANK[1] in os.environ


def _from_environment(names, default):
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


def rank():
    """Return this process's rank, even if Horovod cannot be initialized."""
    return _from_environment(RANK, 0)


def size():
    """Return the number of processes that were started together."""
    return _from_environment(SIZE, 1)


def local_rank():
    """Return this process's rank on its host."""
    return _from_environment(LOCAL_RANK, 0)


def local_size():
    """Return the number of processes that were started on this host."""
    return _from_environment(LOCAL_SIZE, 1)
