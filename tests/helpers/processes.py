"""Finding, watching and waiting for the processes of a run."""

import os
from contextlib import suppress

import psutil

from helpers.patience import wait_until
from imagenet.launcher.ranks import RANK


def processes_of(workspace):
    """Return every process whose command names the workspace."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(workspace) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def worker(workspace, rank):
    """Return the train.py process of a rank."""
    for process in processes_of(workspace):
        is_worker = process.cmdline()[1].endswith('train.py')
        if is_worker and str(rank) in map(process.environ().get, RANK):
            return process
    raise AssertionError(f'no rank {rank} in {workspace}')


def read_until(process, beginning):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(beginning):
            return ''.join(lines)
    raise AssertionError(f'"{beginning}" never came:\n{"".join(lines)}')


def assert_nothing_is_left(workspace):
    wait_until(lambda: not processes_of(workspace))


def read_terminal(master):
    """Return what programs still write to a pseudo-terminal, until all of them have closed it; close our end."""
    shown = b''
    # Reading fails when the other end is closed.
    with suppress(OSError):
        while chunk := os.read(master, 4096):
            shown += chunk
    os.close(master)
    return shown
