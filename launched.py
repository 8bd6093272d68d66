"""What the launcher told this process: its place among the others, and so its cores.

Needs nothing but Python: the launcher itself asks it, and everyone may ask before anything is initialised.
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
    """This process's number; known even where Horovod cannot be initialised."""
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


def own_cores(rank_on_host, processes_on_host):
    """A process's share of the cores that the processes of this host have together, as a list of numbers."""
    cores = sorted(os.sched_getaffinity(0))
    on_node = os.environ.get('SLURM_CPUS_ON_NODE')
    if on_node is not None and len(cores) * processes_on_host <= int(on_node):
        # Slurm has shared them out.
        return cores
    share = len(cores) // processes_on_host
    if share == 0:
        return [cores[rank_on_host % len(cores)]]
    return cores[rank_on_host * share : (rank_on_host + 1) * share]
