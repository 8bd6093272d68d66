"""Runs workers through `horovodrun`, prints their output, forwards signals, and explains failures."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagenet.common.errors import (
    INTERRUPTED_EXIT_CODE,
    LOST_PROCESS_EXIT_CODE,
    NON_FINITE_EXIT_CODE,
    USER_ERROR_EXIT_CODE,
)
from imagenet.common.output import continue_without_output, new_losses
from imagenet.launcher.hosts import Host
from imagenet.launcher.supervisor import ENDED, PR_SET_PDEATHSIG, STARTED

# `horovodrun` puts the rank and the stream before each line of a worker; with MPI, also the job.
WORKER_LINE = re.compile(r'\[(\d+,)?(\d+)\]<(stdout|stderr)>: ?')
# Lines from Horovod's own log, from Open MPI, which reads the memory of other workers, and from the shell that starts a
# worker. They report lost connections and dead workers: consequences of an error, not its cause. Horovod pads
# microseconds with spaces.
CONSEQUENCE_LINE = re.compile(
    r'\[\d{4}-\d\d-\d\d [\d:]+\. *\d+: [A-Z] |\[\S+:\d+\] Read -1, expected \d+, errno = |Terminated$|Killed$'
)
# Exit codes of workers that ended because of another worker's error.
CONSEQUENCES = (LOST_PROCESS_EXIT_CODE, -signal.SIGINT, -signal.SIGTERM, INTERRUPTED_EXIT_CODE)
# Exit codes of errors whose messages are written for users and need no explanation.
EXPLAINED = (USER_ERROR_EXIT_CODE, NON_FINITE_EXIT_CODE)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# A signal to the process group arrives twice: directly, and forwarded.
SECONDS_OF_ONE_REQUEST = 0.5
CLEAR_LINE = '\r\x1b[K'


class WorkerOutput:
    """The output of the workers and `horovodrun`: shown as it arrives, or kept until the end.

    Attributes:
        started: dict from rank to the worker's host and process id, as reported by supervisor.py.
        ended: how workers ended, as reported by supervisor.py, in the order of arrival.
        error_of_rank_0: the last error line of rank 0, or None.
        others: lines from `horovodrun`, Horovod and the shell.
        has_stop_signal: whether the launcher has received a signal to stop the workers.

    Args:
        log: the run's log, which gets a line if the output cannot be shown.
    """

    def __init__(self, log):
        self._log = log
        self.started = {}
        self.ended = []
        self.error_of_rank_0 = None
        self.others = []
        self.has_stop_signal = False
        self._has_terminal = sys.stderr.isatty()

    def read(self, stream, name):
        """Read a stream of `horovodrun` until it ends.

        Args:
            name: 'stdout' or 'stderr': which stream this is.
        """
        # A progress bar ends its lines with a carriage return.
        line = b''
        while True:
            character = stream.read(1)
            if character in (b'\n', b'\r', b''):
                self._take(line.decode('utf-8', 'replace'), character.decode(), name)
                line = b''
            if not character:
                return
            line += character if character not in b'\n\r' else b''

    def places_without_end(self):
        """Return the entries of `started` of workers whose end was never reported: their hosts may be unreachable."""
        ended = {worker['rank'] for worker in self.ended}
        return [place for rank, place in sorted(self.started.items()) if rank not in ended]

    def _take(self, text, end, name):
        match = WORKER_LINE.match(text)
        if not match:
            self.others += [text] if text else []
            return
        is_from_mpirun, rank, name, text = match[1], int(match[2]), match[3], text[match.end() :]
        if text.startswith(STARTED):
            place = json.loads(text[len(STARTED) :])
            self.started[place['rank']] = place
        elif text.startswith(ENDED):
            self.ended.append(json.loads(text[len(ENDED) :]))
        elif name == 'stderr' and CONSEQUENCE_LINE.match(text):
            self.others.append(text)
        elif is_from_mpirun and text.startswith('interrupted: ') and not self.has_stop_signal:
            # mpirun interrupts the other workers if one ends.
            self.others.append(text)
        elif rank == 0 and name == 'stderr' and text.startswith('error: '):
            self.error_of_rank_0 = text
        else:
            self._show(text, end, name)

    def _show(self, text, end, name):
        stream = getattr(sys, name)
        if self._has_terminal and name == 'stdout':
            # There may be a progress bar to erase.
            text = CLEAR_LINE + text
        stream.write(text + end)
        stream.flush()
        for line in new_losses():
            self._add_to_log(line)

    def _add_to_log(self, line):
        # Rank 0 appends to the same file. A run whose disk is full ends with another message.
        with suppress(OSError), self._log.open('a', encoding='utf-8') as file:
            file.write(f'{line}; this log continues\n')


def start_horovodrun(command, environment):
    """Start `horovodrun` in a separate session, so that Ctrl-C does not reach it; it ends when this process dies."""
    libc = ctypes.CDLL(None)
    # horovodrun may miss a signal that it handles, but its children end with it in any case. mpirun's do not.
    last_signal = signal.SIGTERM if '--mpi' in command else signal.SIGKILL
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, last_signal),
    )


class SignalRelay:
    """Forwards signals from this process to one worker, which agrees with the others on what to do.

    A second signal, at least half a second later, stops everything immediately. So does the first one if no worker has
    started yet.
    """

    def __init__(self, output, process, ssh):
        self._output = output
        self._process = process
        self._ssh = ssh
        self._first_time = None
        self.taken = []

    def listen(self):
        for number in (*STOP_SIGNALS, signal.SIGINT):
            # As under `nohup`.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._take)

    def _take(self, number, _):
        now = time.monotonic()
        # A terminal that closes may send SIGHUP several times, which is not impatience.
        if self.taken and (number == signal.SIGHUP or now - self._first_time < SECONDS_OF_ONE_REQUEST):
            return
        is_first = not self.taken
        self.taken.append(number)
        self._output.has_stop_signal = True
        if is_first:
            self._first_time = now
        if is_first and self._output.started:
            # In a thread, because ssh is slow.
            threading.Thread(target=self._pass_on, args=(number,), daemon=True).start()
        else:
            self._process.send_signal(signal.SIGTERM)

    def _pass_on(self, number):
        place = min(self._output.started.values(), key=lambda place: place['rank'])
        host = Host(place['host'], 1)
        if host.is_local():
            os.kill(place['pid'], number)
        else:
            self._ssh.run(host.name, f'kill -{int(number)} {place["pid"]}')


def run_workers(command, environment, ssh, log):
    """Run `horovodrun` until it ends.

    Args:
        command: its command line, as a list.
        environment: variables to add to those of this process.
        ssh: a `hosts.Ssh`.
        log: path of the run's log.

    Returns:
        The exit code: 0 on success, 130 after Ctrl-C, a worker's exit code if it ended with a `UserError`, else 1.
    """
    continue_without_output()
    process, output = start_horovodrun(command, environment), WorkerOutput(log)
    signals = SignalRelay(output, process, ssh)
    signals.listen()
    streams = {'stdout': process.stdout, 'stderr': process.stderr}
    readers = [threading.Thread(target=output.read, args=(stream, name)) for name, stream in streams.items()]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    returncode = process.wait()
    if signal.SIGINT in signals.taken:
        return INTERRUPTED_EXIT_CODE
    if returncode == 0:
        return 0
    return explain_failure(output, signals.taken)


def explain_failure(output, signals):
    """Print on stderr why a run failed, and return its exit code."""
    if len(signals) > 1:
        print('error: stopped immediately; the same command resumes from the last checkpoint', file=sys.stderr)
        return 1
    failed = sorted((ended for ended in output.ended if ended['status']), key=lambda ended: ended['time'])
    causes = [ended for ended in failed if ended['status'] not in CONSEQUENCES]
    if not causes:
        return _explain_without_cause(output, failed, signals)
    cause = causes[0]
    message = _error_line(cause, output)
    if message is not None:
        print(message, file=sys.stderr)
        return cause['status']
    for line in cause['lines']:
        print(f'[rank {cause["rank"]}] {line}', file=sys.stderr)
    log = f'; its output is in {cause["log"]}' if cause['log'] else ''
    print(
        f'error: rank {cause["rank"]} on {cause["host"]} {_describe(cause["status"])}{log}; '
        'the same command resumes from the last checkpoint',
        file=sys.stderr,
    )
    return 1


def _error_line(cause, output):
    """Return the line with which a worker explained its end, with its rank unless rank 0 reported the same; or None."""
    line = next((line for line in reversed(cause['lines']) if line.startswith('error: ')), None)
    # If all ranks find the same error of the user, rank 0 alone prints it.
    if cause['rank'] == 0 or (line is None and cause['status'] in EXPLAINED):
        line = output.error_of_rank_0
    return line if line in (None, output.error_of_rank_0) else f'[rank {cause["rank"]}] {line}'


def _describe(status):
    if status == -signal.SIGKILL:
        return 'was killed (SIGKILL), as the system does if memory runs out'
    if status < 0:
        return f'was ended by {signal.Signals(-status).name}'
    return f'ended with exit code {status}'


def _explain_without_cause(output, failed, signals):
    if signals:
        print('error: stopped immediately; the same command resumes from the last checkpoint', file=sys.stderr)
    elif output.error_of_rank_0 and not any(ended['status'] in CONSEQUENCES for ended in failed):
        print(output.error_of_rank_0, file=sys.stderr)
    elif failed and output.places_without_end():
        lost = ', '.join(f'rank {place["rank"]} on {place["host"]}' for place in output.places_without_end())
        print(
            f'error: lost the connection to {lost}: check this host and its network; '
            'the same command resumes from the last checkpoint',
            file=sys.stderr,
        )
    else:
        said = next((line for line in reversed(output.others) if line.strip()), '(no output)')
        lost = f'; {len(failed)} workers ended because another one did' if failed else ''
        print(f'error: horovodrun failed; its last line was: {said.strip()}{lost}', file=sys.stderr)
    return 1


@dataclass(frozen=True)
class HorovodrunOptions:
    """The options of `runner` with the same names."""

    ngpus: int
    launcher: str
    network_interface: str
    ssh_port: int
    ssh_identity_file: Path


def horovodrun_command(options, hosts, worker, python):
    """Return the command that starts all workers, as a list.

    Args:
        options: `HorovodrunOptions`.
        hosts: list of `hosts.Host`, or None for this machine alone.
        worker: the command of each worker.
        python: the interpreter of the environment that has Horovod.
    """
    settings = {
        '-H': ','.join(f'{host.name}:{host.slots}' for host in hosts) if hosts else None,
        '--network-interfaces': options.network_interface,
        '--ssh-port': options.ssh_port,
        '--ssh-identity-file': options.ssh_identity_file,
    }
    pairs = [str(part) for option, value in settings.items() if value is not None for part in (option, value)]
    engine = '--mpi' if options.launcher == 'mpi' else '--gloo'
    horovodrun = (python, '-m', 'imagenet.runtime.quick_horovodrun')
    return [*horovodrun, engine, '-np', str(options.ngpus), *pairs, *worker]
