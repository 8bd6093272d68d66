#!/usr/bin/env python
"""Supervises one worker: logs its output, reports its exit status, and terminates it if the launcher dies.

    python -m imagenet.launcher.supervisor FOLDER COMMAND ...

`horovodrun.py` starts this on every host in place of the command itself. The output of rank 0 goes on to the terminal,
that of rank k to `FOLDER/log.rank<k>.log`. Two lines on stderr are for the launcher: where the process is, and how it
ended.
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
    """The file for the output of a process that has no terminal; it is added to what earlier runs left there.

    Raises:
        UserError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return log_path(folder, rank).open('ab')
    except OSError as error:
        raise UserError(f'--workspace {folder}: cannot write there ({error.strerror})') from None


def dies_with(parent):
    """A function for the child, which has the system kill it when its parent is gone in any way."""
    libc = ctypes.CDLL(None)

    def prepare():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def notify_launcher(kind, content):
    """Gives a line to the launcher."""
    # One call, so that lines of others do not come between.
    os.write(sys.stderr.fileno(), f'{kind}{json.dumps(content)}\n'.encode())


def terminate(process):
    """Ends the process: Ctrl-C, which it may take a moment for, then without asking."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()


def terminate_when_orphaned(process):
    """Ends the process when nobody reads what we write: the launcher, or the connection to it, is gone."""
    watched = select.poll()
    # An error is told of even where no event is asked for.
    watched.register(sys.stdout.fileno(), 0)
    watched.poll()
    terminate(process)


def last_lines(path, begin):
    """What was written to a log since it had `begin` bytes: its last lines."""
    with path.open('rb') as file:
        file.seek(begin)
        text = file.read().decode('utf-8', 'replace')
    return text.splitlines()[-LINES_KEPT:]


def supervise(folder, command, rank):
    """Runs the command, and returns its exit code; negative for a signal."""
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
