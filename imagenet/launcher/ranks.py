"""What the launcher told this process: its place among the others, and so its cores.

Needs nothing but Python: the launcher itself asks it, and everyone may ask before anything is initialized.
"""

import os

# horovodrun and our launcher say it one way, mpirun another.
RANK = ('HOROVOD_RANK', 'OMPI_COMM_WORLD_RANK')
SIZE = ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE')
LOCAL_RANK = ('HOROVOD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK')
LOCAL_SIZE = ('HOROVOD_LOCAL_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE')


def _from_environment(names, default):
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


def rank():
    """This process's number; known even where Horovod cannot be initialized."""
    return _from_environment(RANK, 0)


def size():
    """The number of processes that were started together."""
    return _from_environment(SIZE, 1)


def local_rank():
    """This process's number on its host."""
    return _from_environment(LOCAL_RANK, 0)


def local_size():
    """The number of processes that were started on this host."""
    return _from_environment(LOCAL_SIZE, 1)
