"""The CPU cores that a process may use."""

import os
from pathlib import Path, PurePosixPath

CGROUPS = Path('/sys/fs/cgroup')


def usable_cores():
    """Return the cores that this process may use, limited by the container's CPU quota."""
    cores = sorted(os.sched_getaffinity(0))
    quota = cpu_quota(Path('/proc/self/cgroup'), CGROUPS)
    return cores if quota is None else cores[: max(1, int(quota))]


def cpu_quota(membership, root):
    """Return the CPU quota of this process's control groups in cores, or None if there is no limit.

    Args:
        membership: the file that lists a process's groups; see cgroups(7).
        root: the folder with the groups' files, such as `CGROUPS`.
    """
    try:
        lines = membership.read_text(encoding='utf-8').splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, group = line.split(':', 2)
        if controllers and 'cpu' not in controllers.split(','):
            continue
        hierarchy = root / controllers
        group = PurePosixPath(group.lstrip('/'))
        # A limit also applies to the groups below, and a container may see its own group as the root.
        for folder in (hierarchy / group, *(hierarchy / parent for parent in group.parents), hierarchy):
            quotas.append(_quota_of_new(folder) if not controllers else _quota_of_old(folder))
    return min(filter(None, quotas), default=None)


def _quota_of_new(folder):
    """Return the quota of a version 2 group in cores, or None if it has no limit."""
    try:
        quota, period = (folder / 'cpu.max').read_text().split()
        return None if quota == 'max' else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_of_old(folder):
    """Return the quota of a version 1 group in cores, or None if it has no limit, which is written as -1."""
    try:
        quota, period = (int((folder / f'cpu.cfs_{name}_us').read_text()) for name in ('quota', 'period'))
        return quota / period if quota > 0 else None
    except (OSError, ValueError):
        return None


def own_cores(rank_on_host, processes_on_host):
    """Return the core numbers for one of several processes on this host."""
    cores = usable_cores()
    on_node = os.environ.get('SLURM_CPUS_ON_NODE')
    if on_node is not None and len(cores) * processes_on_host <= int(on_node):
        # Slurm has already divided the cores among the processes.
        return cores
    share = len(cores) // processes_on_host
    if share == 0:
        return [cores[rank_on_host % len(cores)]]
    return cores[rank_on_host * share : (rank_on_host + 1) * share]
