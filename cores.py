"""Which cores a process may use. Needs nothing but Python, for the launcher asks it, too."""

import os


def own_cores(local_rank, local_size):
    """This process's share of the cores that the processes of this host have together, as a list of numbers.

    Args:
        local_rank: the number of the process on its host.
        local_size: processes on the host.
    """
    cores = sorted(os.sched_getaffinity(0))
    on_node = os.environ.get('SLURM_CPUS_ON_NODE')
    if on_node is not None and len(cores) * local_size <= int(on_node):
        # Slurm has shared them out.
        return cores
    share = len(cores) // local_size
    if share == 0:
        return [cores[local_rank % len(cores)]]
    return cores[local_rank * share : (local_rank + 1) * share]
