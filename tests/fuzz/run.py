"""Runs mutations of files and options, and prints what went wrong: `make fuzz`, or `tests/fuzz/run.py --help`."""

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / 'tests')]

from fuzz.assets import make_assets  # noqa: E402
from fuzz.kinds import KINDS, WEIGHTS  # noqa: E402

FINDINGS = ('traceback', 'crash', 'hang', 'second line', 'exit code')
SECONDS_OF_A_HANG = 10
# On a machine with other work, a program may wait.
MOST_SECONDS = 60
MUTATIONS_PER_WORKER = 500


@dataclass
class Finding:
    """What a program did wrong."""

    kind: str
    number: int
    what: str
    command: list
    said: str

    def __str__(self):
        lines = [line for line in self.said.splitlines() if line.strip()]
        command = ' '.join(part if len(part) < 80 else f'{part[:80]}…' for part in self.command)
        return f'{self.what}: {self.kind} {self.number}: {command!r}: {lines[-1][:300] if lines else ""!r}'


class Worker:
    """A process that runs mutations, and is replaced when one ends it.

    Args:
        checkout: the folder of the programs.
        assets: the folder of `make_assets`.
        seed: with the kind and the number of a mutation, it determines the mutation.
    """

    def __init__(self, checkout, assets, seed):
        self._command = [sys.executable, Path(__file__).with_name('worker.py'), checkout, assets]
        self._seed = seed
        self._process = None

    def __enter__(self):
        self._scratch = Path(tempfile.mkdtemp(prefix='worker-', dir=self._command[-1].parent))
        return self

    def __exit__(self, *_):
        self._end()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, kind, number):
        """Return the findings of one mutation."""
        if self._process is None:
            self._start()
        self._process.stdin.write(f'{kind}\t{number}\n')
        line, what = self._read(SECONDS_OF_A_HANG, MOST_SECONDS)
        if what is not None:
            self._end()
            command = json.loads((self._scratch / 'command').read_bytes())
            said = (self._scratch / 'errors').read_text(encoding='utf-8', errors='backslashreplace')
            return [Finding(kind, number, what, command, f'{said[-3000:]}\n{line}')]
        result = json.loads(line)
        return [Finding(kind, number, what, result['command'], result['said']) for what in result['findings']]

    def _start(self):
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'OMP_PROC_BIND': 'false', 'PYTHONWARNINGS': 'ignore'}
        environment.pop('PYTHONPATH', None)
        command = [str(part) for part in (*self._command, self._scratch, self._seed)]
        streams = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'bufsize': 1, 'text': True}
        self._process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)
        ready, what = self._read(MOST_SECONDS, 5 * MOST_SECONDS)
        assert what is None, f'the worker does not start: {what}'

    def _read(self, most_seconds_of_work, most_seconds):
        """Return (line, None), or (description, 'crash' or 'hang')."""
        began, work = time.monotonic(), self._seconds_of_work()
        while not select.select([self._process.stdout], [], [], 0.2)[0]:
            worked, waited = self._seconds_of_work() - work, time.monotonic() - began
            if worked > most_seconds_of_work or waited > most_seconds:
                return f'{worked:.0f} s of work in {waited:.0f} s', 'hang'
        line = self._process.stdout.readline()
        if line:
            return line, None
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f'exit code {code}', 'crash'

    def _seconds_of_work(self):
        try:
            fields = Path(f'/proc/{self._process.pid}/stat').read_text().rpartition(')')[2].split()
        except OSError:
            return 0
        return sum(map(int, fields[11:15])) / os.sysconf('SC_CLK_TCK')

    def _end(self):
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdin = None
            self._process.stdout.close()
            self._process = None


def fuzz(checkout, assets, seed, numbers, report=print):
    """Run mutations of several kinds.

    Args:
        numbers: for each kind, the numbers of its mutations.
        report: a function that is called with each `Finding`.

    Returns:
        The findings.
    """
    jobs = [
        (kind, of_kind[begin : begin + MUTATIONS_PER_WORKER])
        for kind, of_kind in numbers.items()
        for begin in range(0, len(of_kind), MUTATIONS_PER_WORKER)
    ]
    found, lock = [], threading.Lock()

    def run(job):
        kind, some = job
        with Worker(checkout, assets, seed) as worker:
            for number in some:
                for finding in worker.run(kind, number):
                    with lock:
                        found.append(finding)
                        report(finding)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, jobs))
    return found


def divide(count, kinds):
    """Return for each kind the numbers of its mutations, `count` in all."""
    weights = [WEIGHTS[kind] for kind in kinds]
    ends = [round(count * sum(weights[: index + 1]) / sum(weights)) for index in range(len(kinds))]
    return {kind: range(end - begin) for kind, begin, end in zip(kinds, [0, *ends], ends)}


def print_table(numbers, found):
    from tabulate import tabulate

    counts = Counter((finding.kind, finding.what) for finding in found)
    rows = [[kind, len(of_kind), *(counts[kind, what] for what in FINDINGS)] for kind, of_kind in numbers.items()]
    rows.append(['all', *(sum(column) for column in list(zip(*rows))[1:])])
    headers = ['kind', 'mutations', 'tracebacks', 'crashes', 'hangs', 'second lines', 'wrong exit codes']
    print(tabulate(rows, headers))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('-n', '--mutations', type=int, default=20_000, help='number in all (default: %(default)s)')
    parser.add_argument('--seed', default='1', help='of the mutations (default: %(default)s)')
    parser.add_argument('--checkout', type=Path, default=PROJECT, help='the checkout to test (default: this one)')
    parser.add_argument('--kind', choices=tuple(KINDS), action='append', help='only this kind; may be repeated')
    parser.add_argument('--number', type=int, help='only this mutation of the kind; prints all of its output')
    return parser.parse_args()


def main():
    args = parse_args()
    kinds = args.kind or list(KINDS)
    numbers = divide(args.mutations, kinds)
    if args.number is not None:
        numbers = {kind: range(args.number, args.number + 1) for kind in kinds}
    with tempfile.TemporaryDirectory(prefix='fuzz-') as folder:
        assets = Path(folder) / 'assets'
        assets.mkdir()
        make_assets(args.checkout.resolve(), assets)

        def report(finding):
            print(finding, flush=True)
            if args.number is not None:
                print(finding.said)

        found = fuzz(args.checkout.resolve(), assets, args.seed, numbers, report)
    print_table(numbers, found)
    if found:
        print(f'\n{len(found)} findings with seed {args.seed}; repeat one with --kind KIND --number NUMBER')
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
