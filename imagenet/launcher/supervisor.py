#!/usr/bin/env python
"""Supervises one worker: logs its output, reports its exit status, and terminates it if the launcher dies.

    python -m imagenet.launcher.supervisor FOLDER COMMAND ...

`horovodrun.py` starts this on every host instead of the command itself. Rank 0's output goes to the terminal, rank k's
to `FOLDER/log.rank<k>.log`. Two lines on stderr are for the launcher: where the process runs, and how it ended.
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from imagenet.common.errors import UserError, one_line_errors
from imagenet.launcher import ranks

STARTED, ENDED = '@started ', '@ended '
LINES_KEPT = 20
SECONDS_TO_END = 5
PR_SET_PDEATHSIG = 1


def log_path(folder, rank):
    return folder / f'log.rank{rank}.log'


def open_log(folder, rank):
    """Open the log for the output of a process without a terminal; it is appended to the output of earlier runs.

    Raises:
        UserError: the log cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return log_path(folder, rank).open('ab')
    except OSError as error:
        raise UserError(f'--workspace {folder}: cannot write there ({error.strerror})') from None


def dies_with(parent):
    """Return a function that makes the system kill the calling child when its parent dies for any reason."""
    libc = ctypes.CDLL(None)

    def prepare():
        # Until the program's `start_program`, which takes Ctrl-C quietly.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def notify_launcher(kind, content):
    """Send a line to the launcher."""
    # A single call, so that no other output comes in between.
    os.write(sys.stderr.fileno(), f'{kind}{json.dumps(content)}\n'.encode())


def terminate(process):
    """End the process with SIGINT, or with SIGKILL if it has not ended after a few seconds."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()


def terminate_when_orphaned(process):
    """End the process when nobody reads our output: the launcher has died, or the connection to it is lost."""
    watched = select.poll()
    # poll reports errors even if no event is requested.
    watched.register(sys.stdout.fileno(), 0)
    watched.poll()
    terminate(process)


def last_lines(path, begin):
    """Return the last lines that were written to a log after its first `begin` bytes."""
    with path.open('rb') as file:
        file.seek(begin)
        text = file.read().decode('utf-8', 'replace')
    return text.splitlines()[-LINES_KEPT:]


def supervise(folder, command, rank):
    """Run the command, and return its exit code, which is negative if a signal ended it."""
    log = open_log(folder, rank) if rank else None
    begin = log.tell() if log else 0
    output = {'stdout': log, 'stderr': subprocess.STDOUT} if log else {}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=dies_with(os.getpid()), **output
    )
    place = {'rank': rank, 'host': os.environ.get('HOROVOD_HOSTNAME', socket.gethostname())}
    notify_launcher(STARTED, {**place, 'pid': process.pid})
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=terminate, args=(process,), daemon=True).start())
    threading.Thread(target=terminate_when_orphaned, args=(process,), daemon=True).start()
    status = process.wait()
    lines = last_lines(log_path(folder, rank), begin) if log else []
    log_name = str(log_path(folder, rank)) if log else None
    notify_launcher(ENDED, {**place, 'status': status, 'log': log_name, 'lines': lines, 'time': time.time()})
    return status


def main():
    with one_line_errors():
        status = supervise(Path(sys.argv[1]), sys.argv[2:], ranks.rank())
    sys.exit(128 - status if status < 0 else status)


if __name__ == '__main__':
    main()
