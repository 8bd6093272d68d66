#!/usr/bin/env python3
"""This package beside PyTorch, ONNX Runtime and OpenVINO on this machine's CPU, by turns in one run.

    benchmarks/cpu_peers.py [--rounds 3] [--only 'inference, batch 32'] [-o peers.json] [--markdown peers.md]

ResNet-50 v1.5 at 224 px with the same weights, training and inference, batch 32 and 1: this package as `runner` starts
it, and each peer in a process of its own with all cores, configured as its documentation advises. Before it is timed, a
peer's logits are compared with this package's. A turn gives the images/s of its median step. Shared machines change
their pace by a factor of two within minutes: it is measured before and after each turn, a turn in which it changes is
taken again, and what is compared are images/s at the run's median pace. The peers get an environment of their own
(1.5 GB, made the first time), for which this program needs Python 3.11 or later.
"""

import argparse
import functools
import itertools
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.files import file_sha256, write_atomically
from imagenet.common.virtualenv import find_python
from imagenet.launcher.cores import usable_cores

BENCHMARKS = Path(__file__).resolve().parent
RUNNER = BENCHMARKS.parent / 'runner'
REQUIREMENTS = BENCHMARKS / 'requirements-peers.txt'
LEAST_PYTHON = (3, 11)
SECONDS_PER_TURN = 1200
CALIBRATION_IMAGES = 64

# ResNet-50 v1.5 at 224 px has 4.089e9 multiply-adds; the backward pass takes two for each of them.
OPERATIONS = {'training': 3 * 2 * 4.089e9, 'inference': 2 * 4.089e9}
# So many steps are measured, after as many that are not; of what computes in int8 or bfloat16, more.
STEPS = {('training', 32): 4, ('training', 1): 20, ('inference', 32): 8, ('inference', 1): 80}
SPEEDUPS = {'float32': 1, 'bfloat16': 2, 'int8': 4}
# Of the machine within a turn; else the turn is taken again, up to so many times.
LARGEST_CHANGE_OF_PACE = 0.1
TRIES = 4
# Of the logits' norm: the same network in float32.
TOLERANCE = 1e-3

# engine: of peer_worker.py, or None for this package; environment: variables that the peer is faster with.
Peer = namedtuple('Peer', 'name precision engine settings environment')
HUGE_PAGES = {'THP_MEM_ALLOC_ENABLE': '1'}
OURS = 'this package'
TRAINING = (
    Peer(OURS, 'float32', None, {}, {}),
    Peer('PyTorch, eager', 'float32', 'torch training', {'channels_last': False}, HUGE_PAGES),
    Peer('PyTorch, channels-last', 'float32', 'torch training', {}, HUGE_PAGES),
    Peer('PyTorch, torch.compile', 'float32', 'torch training', {'form': 'compiled'}, HUGE_PAGES),
    Peer(OURS, 'bfloat16', None, {}, {}),
    Peer('PyTorch, channels-last', 'bfloat16', 'torch training', {'bfloat16': True}, HUGE_PAGES),
    Peer('PyTorch, torch.compile', 'bfloat16', 'torch training', {'form': 'compiled', 'bfloat16': True}, HUGE_PAGES),
    Peer('sgemm limit', 'float32', 'sgemm', {'operations': OPERATIONS['training']}, {}),
)
INFERENCE = (
    Peer(OURS, 'float32', None, {}, {}),
    Peer('PyTorch, eager', 'float32', 'torch inference', {'channels_last': False}, HUGE_PAGES),
    Peer('PyTorch, channels-last', 'float32', 'torch inference', {}, HUGE_PAGES),
    Peer('PyTorch, frozen', 'float32', 'torch inference', {'form': 'frozen'}, HUGE_PAGES),
    Peer('PyTorch, torch.compile', 'float32', 'torch inference', {'form': 'compiled'}, HUGE_PAGES),
    Peer('ONNX Runtime', 'float32', 'onnxruntime', {'source': 'onnx'}, {}),
    Peer('OpenVINO', 'float32', 'openvino', {'source': 'onnx', 'file': 'network.onnx'}, {}),
    Peer('sgemm limit', 'float32', 'sgemm', {'operations': OPERATIONS['inference']}, {}),
    Peer(OURS, 'bfloat16', None, {}, {}),
    Peer('PyTorch, torch.compile', 'bfloat16', 'torch inference', {'form': 'compiled', 'bfloat16': True}, HUGE_PAGES),
    Peer(OURS, 'int8', None, {}, {}),
    Peer('ONNX Runtime', 'int8', 'onnxruntime', {'source': 'onnxruntime-int8'}, {}),
    Peer('OpenVINO', 'int8', 'openvino', {'source': 'openvino-int8', 'file': 'network.xml'}, {}),
)
PEERS = {'training': TRAINING, 'inference': INFERENCE}

# This package beside the best of the peers whose names start like this.
Ratio = namedtuple('Ratio', 'task batch_size precision names their_precision target')
RATIOS = (
    Ratio('training', 32, 'float32', ('PyTorch',), 'float32', 1.6),
    Ratio('training', 32, 'float32', ('sgemm limit',), 'float32', 0.75),
    Ratio('inference', 32, 'float32', ('PyTorch', 'ONNX Runtime', 'OpenVINO'), 'float32', 1.0),
    Ratio('inference', 1, 'float32', ('PyTorch', 'ONNX Runtime', 'OpenVINO'), 'float32', 1.0),
    Ratio('inference', 32, 'int8', ('OpenVINO',), 'int8', 1.15),
    Ratio('inference', 32, 'int8', (OURS,), 'float32', 3.5),
    Ratio('inference', 1, 'int8', ('OpenVINO',), 'int8', 1.0),
)


class FailedError(Exception):
    """Why nothing was measured, in a line."""


def output_of(*command, **environment):
    """What a program prints, with these environment variables beside the user's.

    Raises:
        FailedError: it fails, or takes too long.
    """
    command = [str(part) for part in command]
    environment = {**os.environ, **environment}
    try:
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=SECONDS_PER_TURN)
    except subprocess.TimeoutExpired:
        raise FailedError(f'took longer than {SECONDS_PER_TURN} s') from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise FailedError(lines[-1] if lines else f'exit code {done.returncode}')
    return done.stdout


def seconds_of_others():
    """The time of this machine's cores that went to other programs, or to other guests of its host."""
    names = [f'cpu{core}' for core in usable_cores()]
    lines = [line.split() for line in Path('/proc/stat').read_text().splitlines()]
    # user, nice, system, idle, iowait, irq, softirq, steal
    spent = [list(map(int, fields[1:9])) for fields in lines if fields[0] in names]
    busy = sum(sum(times) - times[3] - times[4] for times in spent) / os.sysconf('SC_CLK_TCK')
    return busy - sum(os.times()[:4])


Turn = namedtuple('Turn', 'ips gflops others')


class Case:
    """A peer at a task and batch size, and what its turns have measured.

    Attributes:
        turns: for each, images/s, the machine's pace meanwhile (see `pace` of peer_worker.py), and the share of the
            cores' time that others had (see `seconds_of_others`).
        difference: of its logits from this package's, relative to their norm; None if nobody compares.
        failure: why there are no more turns, in a line; or None.
    """

    def __init__(self, task, batch_size, peer):
        self.task, self.batch_size, self.peer = task, batch_size, peer
        self.turns, self.difference, self.failure = [], None, None

    def __str__(self):
        return f'{self.task}, batch {self.batch_size}: {self.peer.name}, {self.peer.precision}'

    @property
    def steps(self):
        return STEPS[self.task, self.batch_size] * SPEEDUPS[self.peer.precision]

    @property
    def images_per_gflop(self):
        """Images/s for each GFLOP/s of the machine's pace: the median over the turns; NaN if there are none."""
        return statistics.median([turn.ips / turn.gflops for turn in self.turns] or [math.nan])

    def take_turn(self, folder, python):
        """Measures once more; a failure is noted, and is the end of it.

        Args:
            folder: with what peer_network.py has written.
            python: the interpreter of the peers.
        """
        try:
            for _ in range(TRIES):
                before = machine_pace(folder, python)
                ips, others = self._measure(folder, python)
                after = machine_pace(folder, python)
                if abs(after - before) < LARGEST_CHANGE_OF_PACE * max(before, after):
                    break
        except FailedError as error:
            self.failure = str(error)
            return
        self.turns.append(Turn(ips, (before + after) / 2, others))

    def _measure(self, folder, python):
        start, others = time.perf_counter(), seconds_of_others()
        turn = measure_peer(self, folder, python) if self.peer.engine else measure_ours(self, folder)
        speed, self.difference = turn
        if self.peer.precision == 'float32' and self.difference is not None and not self.difference < TOLERANCE:
            raise FailedError(f'another network: the logits differ by {self.difference:.2g}')
        seconds = (time.perf_counter() - start) * len(usable_cores())
        return speed, (seconds_of_others() - others) / seconds

    def last_turn(self):
        """How it ended, in a line."""
        if self.failure is not None:
            return f'failed: {self.failure}'
        turn = self.turns[-1]
        return (
            f'{turn.ips:.2f} images/s at a pace of {turn.gflops:.0f} GFLOP/s ({turn.others:.0%} of the time to others)'
        )


def machine_pace(folder, python):
    """GFLOP/s that the machine does just now."""
    environment = {'OMP_NUM_THREADS': str(len(usable_cores()))}
    printed = output_of(python, BENCHMARKS / 'peer_worker.py', folder, 'pace', 0, 0, '{}', **environment)
    return json.loads(printed)['gflops']


def measure_peer(case, folder, python):
    """(images/s, difference of the logits) of one turn of a peer."""
    peer = case.peer
    # Not the user's folder of compiled code, which is there from the last run.
    environment = {'OMP_NUM_THREADS': str(len(usable_cores())), 'TORCHINDUCTOR_CACHE_DIR': str(folder / 'inductor')}
    command = (python, BENCHMARKS / 'peer_worker.py', folder, peer.engine, case.batch_size, case.steps)
    printed = output_of(*command, json.dumps(peer.settings), **environment, **peer.environment)
    result = json.loads(printed.splitlines()[-1])
    return result['ips'], result['difference']


def measure_ours(case, folder):
    """(images/s, difference of the logits or None) of the second epoch of a run of this package."""
    precision = case.peer.precision
    mode = {'training': 'train', 'inference': 'val'}[case.task]
    network, difference = folder / 'network.params', None
    if precision == 'int8':
        network, difference = calibrate(folder)
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        command = [RUNNER, '--mode', mode, '--device', 'cpu', '--data-backend', 'synthetic', '--load', network]
        command += ['-b', case.batch_size, '-e', 2, '--benchmark-iters', case.steps]
        command += ['--amp'] if precision == 'bfloat16' else []
        output_of(*command, '--save-frequency', 0, '--workspace', workspace)
        metrics = json.loads((Path(workspace) / 'report.json').read_text())['metrics']
    return case.batch_size / metrics[f'{mode}.latency_50'][1], difference


@functools.lru_cache(maxsize=None)
def calibrate(folder):
    """(this package's int8 network, as `--load` takes it, and the difference of its logits)."""
    prefix = folder / 'network'
    command = [RUNNER, '--mode', 'calibrate', '--device', 'cpu', '--data-backend', 'synthetic', '-b', 32, '-o', prefix]
    command += ['--load', folder / 'network.params', '--calib-images', CALIBRATION_IMAGES, '--calib-mode', 'minmax']
    # Accuracy on random labels says nothing.
    output_of(*command, '--max-drop', 1, '--benchmark-iters', 1, '--workspace', folder)
    difference = float(output_of(find_python(), BENCHMARKS / 'peer_network.py', folder, '--int8', prefix))
    return Path(f'{prefix}-int8'), difference


def default_environment():
    """A folder in the user's cache; another one for other requirements."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return cache / 'imagenet-mxnet' / f'peers-{file_sha256(REQUIREMENTS)[:12]}'


def make_environment(folder):
    """The interpreter of the peers' environment, which is made where it is missing, whole or not at all.

    Raises:
        UserError: it cannot be made, or there is something else.
    """
    requirements = REQUIREMENTS.read_text()
    stamp = folder / REQUIREMENTS.name
    if stamp.exists() and stamp.read_text() == requirements:
        return folder / 'bin' / 'python'
    if folder.exists():
        raise UserError(f'--environment {folder}: there is something else, or for other versions; name another folder')
    if sys.version_info < LEAST_PYTHON:
        raise UserError(
            f'the peers need Python 3.11 or later, and this is {platform.python_version()}: start with another'
        )
    print(f'making {folder}', flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as temporary:
        partial = Path(temporary) / folder.name
        try:
            output_of(sys.executable, '-m', 'venv', partial)
            output_of(partial / 'bin' / 'python', '-m', 'pip', 'install', '--quiet', '-r', REQUIREMENTS)
        except FailedError as error:
            raise UserError(f'--environment {folder}: it cannot be made: {error}') from None
        (partial / REQUIREMENTS.name).write_text(requirements)
        partial.rename(folder)
    return folder / 'bin' / 'python'


def describe_machine(python):
    """What measures and what is measured: processor, cores, versions."""
    program = 'import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))'
    packages = {'PyTorch': 'torch', 'ONNX Runtime': 'onnxruntime', 'OpenVINO': 'openvino', 'NNCF': 'nncf'}
    versions = dict(zip(packages, output_of(python, '-c', program, *packages.values()).split()))
    versions['MXNet'] = output_of(find_python(), '-c', program, 'mxnet').strip()
    cpu = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    cpu = cpu.group(1) if cpu else platform.machine()
    return {'cpu': cpu, 'cores': len(usable_cores()), 'system': platform.platform(), 'versions': versions}


def best_of(cases, task, batch_size, precision, names):
    """The best of the peers whose names start with one of these, in images/s for a GFLOP/s; NaN if there is none."""
    wanted = (task, batch_size, precision)
    found = [case for case in cases if (case.task, case.batch_size, case.peer.precision) == wanted and case.turns]
    return max((case.images_per_gflop for case in found if case.peer.name.startswith(names)), default=math.nan)


def compute_ratios(cases):
    """(what, beside whom, ratio, target) for each of `RATIOS` that was measured."""
    for task, batch_size, precision, names, their_precision, target in RATIOS:
        ours = best_of(cases, task, batch_size, precision, (OURS,))
        ratio = ours / best_of(cases, task, batch_size, their_precision, names)
        best = 'best of ' if names[0] == 'PyTorch' else ''
        if not math.isnan(ratio):
            yield (
                f'{task}, batch {batch_size}, {precision}',
                f'{best}{", ".join(names)}, {their_precision}',
                ratio,
                target,
            )


def median_pace(cases):
    """The machine's, over all turns of the run, in GFLOP/s."""
    return statistics.median([turn.gflops for case in cases for turn in case.turns] or [math.nan])


def speed_rows(cases, pace):
    """The rows of the table of one task and batch size, with images/s at this pace."""
    ours = best_of(cases, cases[0].task, cases[0].batch_size, 'float32', (OURS,))
    for case in cases:
        difference = '' if case.difference is None else f'{case.difference:.1e}'
        speeds = ' '.join(f'{turn.ips / turn.gflops * pace:.2f}' for turn in case.turns)
        cells = [f'{case.images_per_gflop * pace:.2f}', f'{case.images_per_gflop / ours:.2f}', speeds]
        if case.failure is not None:
            cells = [f'failed: {case.failure}', '', '']
        yield (case.peer.name, case.peer.precision, *cells, difference)


def format_table(headers, rows):
    """A Markdown table that reads well on a terminal, too."""
    rows = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    lines.insert(1, ' | '.join('-' * width for width in widths))
    return '\n'.join(f'| {line} |' for line in lines)


def format_results(machine, cases):
    """All that was measured, as Markdown."""
    versions = ', '.join(' '.join(pair) for pair in machine['versions'].items())
    others = statistics.median([turn.others for case in cases for turn in case.turns] or [0])
    pace = median_pace(cases)
    paces = [turn.gflops for case in cases for turn in case.turns] or [math.nan]
    parts = [
        f'{machine["cpu"]}, {machine["cores"]} cores, of whose time others had {others:.0%}; {versions}. '
        f'Images/s at a pace of {pace:.0f} GFLOP/s; it was between {min(paces):.0f} and {max(paces):.0f}.'
    ]
    for (task, batch_size), group in itertools.groupby(cases, lambda case: (case.task, case.batch_size)):
        headers = (f'{task}, batch {batch_size}', 'precision', 'images/s', f'/ {OURS}', 'rounds', 'logits differ')
        parts.append(format_table(headers, speed_rows(list(group), pace)))
    rows = [(what, whom, f'{ratio:.2f}', f'{target:.2f}') for what, whom, ratio, target in compute_ratios(cases)]
    return '\n\n'.join([*parts, format_table((OURS, 'beside', 'ratio', 'target'), rows)]) + '\n'


def results_of(machine, rounds, cases):
    """All that was measured, for JSON."""
    measured = [
        {
            'task': case.task,
            'batch_size': case.batch_size,
            'peer': case.peer.name,
            'precision': case.peer.precision,
            'turns': [turn._asdict() for turn in case.turns],
            'images_per_gflop': case.images_per_gflop if case.turns else None,
            'difference': case.difference,
            'failure': case.failure,
        }
        for case in cases
    ]
    names = ('what', 'beside', 'ratio', 'target')
    ratios = [dict(zip(names, row)) for row in compute_ratios(cases)]
    return {**machine, 'rounds': rounds, 'measured': measured, 'ratios': ratios}


def write_text(path, text):
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3, help='turns of each (default: 3)')
    parser.add_argument(
        '--environment', type=Path, metavar='DIR', help="the peers' (default: in ~/.cache/imagenet-mxnet)"
    )
    parser.add_argument('--only', type=re.compile, default='', metavar='PATTERN', help='those that this is found in')
    parser.add_argument('-o', '--output', type=Path, help='write all rounds there, as JSON')
    parser.add_argument('--markdown', type=Path, help='write the tables there')
    return parser.parse_args()


def measure(args, cases, python):
    """Takes the turns of all cases, writes what they measured after each round, and shows it at the end."""
    machine = describe_machine(python)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        output_of(find_python(), BENCHMARKS / 'peer_network.py', folder)
        for turn in range(args.rounds):
            for case in cases:
                if case.failure is None:
                    case.take_turn(folder, python)
                    print(f'round {turn + 1}/{args.rounds}, {case}: {case.last_turn()}', flush=True)
            if args.output is not None:
                write_text(args.output, json.dumps(results_of(machine, turn + 1, cases), indent=2) + '\n')
            if args.markdown is not None:
                write_text(args.markdown, format_results(machine, cases))
    print(f'\n{format_results(machine, cases)}', end='')


def main():
    args = parse_args()
    with one_line_errors():
        cases = [Case(*place, peer) for place in STEPS for peer in PEERS[place[0]]]
        cases = [case for case in cases if re.search(args.only, str(case))]
        if args.rounds < 1:
            raise UserError(f'--rounds {args.rounds}: needed is at least 1')
        if not cases:
            raise UserError(
                f'--only {args.only.pattern}: found in nothing, such as "inference, batch 1: OpenVINO, int8"'
            )
        try:
            measure(args, cases, make_environment((args.environment or default_environment()).absolute()))
        except FailedError as error:
            raise UserError(f'nothing can be measured: {error}') from None


if __name__ == '__main__':
    main()
