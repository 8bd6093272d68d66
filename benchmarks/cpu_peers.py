#!/usr/bin/env python3
"""Compares this package with PyTorch, ONNX Runtime and OpenVINO on this machine's CPU, alternately in one run.

    benchmarks/cpu_peers.py [--network efficientnet_b0] [--rounds 3] [--only 'inference, batch 32'] [-o peers.json]

Measures training and inference at 224 px with the same weights, at batch sizes 32 and 1. This package runs as `runner`
starts it. Each peer runs in a separate process with all cores, configured as its documentation recommends. Before
timing, a peer's logits are compared with this package's. The result of a turn is images/s of its median step.

The pace of a shared machine may change by a factor of two within minutes. The pace is measured before and after each
turn, and a turn is repeated if it changes. Results are images/s at the run's median pace.

The peers get a separate environment (1.5 GB, created the first time), for which this program needs Python 3.11 or
later.
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

# Number of measured steps, after the same number of warm-up steps; multiplied by the speedup of a precision.
STEPS = {('training', 32): 4, ('training', 1): 20, ('inference', 32): 8, ('inference', 1): 80}
SPEEDUPS = {'float32': 1, 'bfloat16': 2, 'int8': 4}
# If the machine's pace changes more than this within a turn, the turn is repeated, for at most this many tries.
LARGEST_CHANGE_OF_PACE = 0.1
TRIES = 4
# Relative to the logits' norm, for the same network in float32.
TOLERANCE = 1e-3

# engine: of peer_worker.py, or None for this package; settings: of the engine, or options of `runner`; environment:
# variables that make the peer faster.
Peer = namedtuple('Peer', 'name precision engine settings environment')
HUGE_PAGES = {'THP_MEM_ALLOC_ENABLE': '1'}
OURS = 'this package'
AUTO = '--engine auto'
WITH_AUTO = {'engine': 'auto'}
BFLOAT16_WITH_AUTO = {'engine': 'auto', 'inference-dtype': 'bfloat16'}
TRAINING = (
    Peer(OURS, 'float32', None, {}, {}),
    Peer('PyTorch, eager', 'float32', 'torch training', {'channels_last': False}, HUGE_PAGES),
    Peer('PyTorch, channels-last', 'float32', 'torch training', {}, HUGE_PAGES),
    Peer('PyTorch, torch.compile', 'float32', 'torch training', {'form': 'compiled'}, HUGE_PAGES),
    Peer(OURS, 'bfloat16', None, {}, {}),
    Peer('PyTorch, channels-last', 'bfloat16', 'torch training', {'bfloat16': True}, HUGE_PAGES),
    Peer('PyTorch, torch.compile', 'bfloat16', 'torch training', {'form': 'compiled', 'bfloat16': True}, HUGE_PAGES),
    # The backward pass has twice as many multiply-adds.
    Peer('sgemm limit', 'float32', 'sgemm', {'passes': 3}, {}),
)
INFERENCE = (
    Peer(OURS, 'float32', None, {}, {}),
    Peer(AUTO, 'float32', None, WITH_AUTO, {}),
    Peer('PyTorch, eager', 'float32', 'torch inference', {'channels_last': False}, HUGE_PAGES),
    Peer('PyTorch, channels-last', 'float32', 'torch inference', {}, HUGE_PAGES),
    Peer('PyTorch, frozen', 'float32', 'torch inference', {'form': 'frozen'}, HUGE_PAGES),
    Peer('PyTorch, torch.compile', 'float32', 'torch inference', {'form': 'compiled'}, HUGE_PAGES),
    Peer('ONNX Runtime', 'float32', 'onnxruntime', {'source': 'onnx'}, {}),
    Peer('OpenVINO', 'float32', 'openvino', {'source': 'onnx', 'file': 'network.onnx'}, {}),
    Peer('sgemm limit', 'float32', 'sgemm', {'passes': 1}, {}),
    Peer(OURS, 'bfloat16', None, {}, {}),
    Peer(AUTO, 'bfloat16', None, BFLOAT16_WITH_AUTO, {}),
    Peer('PyTorch, torch.compile', 'bfloat16', 'torch inference', {'form': 'compiled', 'bfloat16': True}, HUGE_PAGES),
    Peer(OURS, 'int8', None, {}, {}),
    Peer(AUTO, 'int8', None, WITH_AUTO, {}),
    Peer('ONNX Runtime', 'int8', 'onnxruntime', {'source': 'onnxruntime-int8'}, {}),
    Peer('OpenVINO', 'int8', 'openvino', {'source': 'openvino-int8', 'file': 'network.xml'}, {}),
)
PEERS = {'training': TRAINING, 'inference': INFERENCE}

# Compares this package (`ours`) with the best of the peers whose names start with one of `names`.
Ratio = namedtuple('Ratio', 'task batch_size precision names their_precision target ours', defaults=(OURS,))
FLOAT32_PEERS = ('PyTorch', 'ONNX Runtime', 'OpenVINO')
INT8_PEERS = ('ONNX Runtime', 'OpenVINO')
AUTO_RATIOS = tuple(
    Ratio('inference', batch_size, precision, names, precision, 0.98, AUTO)
    for precision, names in (('float32', FLOAT32_PEERS), ('int8', INT8_PEERS))
    for batch_size in (32, 1)
)
RESNET_RATIOS = (
    Ratio('training', 32, 'float32', ('PyTorch',), 'float32', 1.6),
    Ratio('training', 32, 'float32', ('sgemm limit',), 'float32', 0.75),
    Ratio('inference', 32, 'float32', FLOAT32_PEERS, 'float32', 1.0),
    Ratio('inference', 1, 'float32', FLOAT32_PEERS, 'float32', 1.0),
    Ratio('inference', 32, 'int8', ('OpenVINO',), 'int8', 1.15),
    Ratio('inference', 32, 'int8', (OURS,), 'float32', 3.5),
    Ratio('inference', 1, 'int8', ('OpenVINO',), 'int8', 1.0),
    *AUTO_RATIOS,
)
EFFICIENTNET_RATIOS = (
    Ratio('training', 32, 'float32', ('PyTorch, channels-last',), 'float32', 1.0),
    Ratio('inference', 32, 'float32', ('PyTorch, channels-last',), 'float32', 1.0),
    *AUTO_RATIOS,
)
RATIOS = {
    'resnetv15': RESNET_RATIOS,
    'efficientnet_b0': EFFICIENTNET_RATIOS,
    'efficientnet_lite0': EFFICIENTNET_RATIOS,
}


class FailedError(Exception):
    """A measurement failed; the message is the reason in one line."""


def output_of(*command, **environment):
    """Run a program with these environment variables in addition to the user's, and return its output.

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
    """Return the seconds of this machine's cores used by other programs, or by other guests of its host."""
    names = [f'cpu{core}' for core in usable_cores()]
    lines = [line.split() for line in Path('/proc/stat').read_text().splitlines()]
    # user, nice, system, idle, iowait, irq, softirq, steal
    spent = [list(map(int, fields[1:9])) for fields in lines if fields[0] in names]
    busy = sum(sum(times) - times[3] - times[4] for times in spent) / os.sysconf('SC_CLK_TCK')
    return busy - sum(os.times()[:4])


Turn = namedtuple('Turn', 'ips gflops others')


class Case:
    """A peer at a task and batch size, and the results of its turns.

    Attributes:
        turns: for each, images/s, the machine's pace during the turn (see `pace` in peer_worker.py), and the share
            of the cores' time that others used (see `seconds_of_others`).
        difference: of its logits from this package's, relative to their norm; None if they are not compared.
        failure: one line that explains why there are no more turns, or None.
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
        """Images/s per GFLOP/s of the machine's pace, as the median over the turns; NaN if there are none."""
        return statistics.median([turn.ips / turn.gflops for turn in self.turns] or [math.nan])

    def take_turn(self, folder, python):
        """Measure once more; a failure is recorded and ends the case.

        Args:
            folder: contains the files that peer_network.py wrote.
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
            raise FailedError(f'not the same network: the logits differ by {self.difference:.2g}')
        seconds = (time.perf_counter() - start) * len(usable_cores())
        return speed, (seconds_of_others() - others) / seconds

    def last_turn(self):
        """Return the result of the last turn in one line."""
        if self.failure is not None:
            return f'failed: {self.failure}'
        turn = self.turns[-1]
        return f'{turn.ips:.2f} images/s at a pace of {turn.gflops:.0f} GFLOP/s (others: {turn.others:.0%} of the time)'


def machine_pace(folder, python):
    """Return the machine's current GFLOP/s."""
    environment = {'OMP_NUM_THREADS': str(len(usable_cores()))}
    printed = output_of(python, BENCHMARKS / 'peer_worker.py', folder, 'pace', 0, 0, '{}', **environment)
    return json.loads(printed)['gflops']


def measure_peer(case, folder, python):
    """Return (images/s, difference of the logits) of one turn of a peer."""
    peer = case.peer
    # Not the user's cache of compiled code, which still contains that of the last run.
    environment = {'OMP_NUM_THREADS': str(len(usable_cores())), 'TORCHINDUCTOR_CACHE_DIR': str(folder / 'inductor')}
    command = (python, BENCHMARKS / 'peer_worker.py', folder, peer.engine, case.batch_size, case.steps)
    printed = output_of(*command, json.dumps(peer.settings), **environment, **peer.environment)
    result = json.loads(printed.splitlines()[-1])
    return result['ips'], result['difference']


def measure_ours(case, folder):
    """Return (images/s, difference of the logits or None) of the second epoch of a run of this package."""
    precision = case.peer.precision
    mode = {'training': 'train', 'inference': 'val'}[case.task]
    network, difference = folder / 'network.params', None
    if precision == 'int8':
        network, difference = calibrate(folder)
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        command = [RUNNER, '--mode', mode, '--device', 'cpu', '--data-backend', 'synthetic', '--load', network]
        command += network_options(folder)
        command += ['-b', case.batch_size, '-e', 2, '--benchmark-iters', case.steps]
        command += ['--amp'] if (case.peer.name, precision) == (OURS, 'bfloat16') else []
        for option, value in case.peer.settings.items():
            command += [f'--{option}', value]
        output_of(*command, '--save-frequency', 0, '--workspace', workspace)
        metrics = json.loads((Path(workspace) / 'report.json').read_text())['metrics']
    return case.batch_size / metrics[f'{mode}.latency_50'][1], difference


def network_options(folder):
    """Return the options of the network that peer_network.py wrote. The peers drop nothing in training."""
    return ['--arch', json.loads((folder / 'network.json').read_text())['arch'], '--drop-connect', 0, '--dropout', 0]


@functools.lru_cache(maxsize=None)
def calibrate(folder):
    """Return (this package's int8 network, as a value for `--load`, and the difference of its logits)."""
    prefix = folder / 'network'
    command = [RUNNER, '--mode', 'calibrate', '--device', 'cpu', '--data-backend', 'synthetic', '-b', 32, '-o', prefix]
    command += [
        *network_options(folder),
        '--load',
        folder / 'network.params',
        '--calib-images',
        CALIBRATION_IMAGES,
        '--calib-mode',
        'minmax',
    ]
    # Accuracy on random labels is meaningless.
    output_of(*command, '--max-drop', 1, '--benchmark-iters', 1, '--workspace', folder)
    difference = float(output_of(find_python(), BENCHMARKS / 'peer_network.py', folder, '--int8', prefix))
    return Path(f'{prefix}-int8'), difference


def default_environment():
    """Return a folder in the user's cache, a different one for different requirements."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return cache / 'imagenet-mxnet' / f'peers-{file_sha256(REQUIREMENTS)[:12]}'


def make_environment(folder):
    """Return the interpreter of the peers' environment. If that is missing, create it, completely or not at all.

    Raises:
        UserError: it cannot be created, or the folder contains something else.
    """
    requirements = REQUIREMENTS.read_text()
    stamp = folder / REQUIREMENTS.name
    if stamp.exists() and stamp.read_text() == requirements:
        return folder / 'bin' / 'python'
    if folder.exists():
        raise UserError(f'--environment {folder}: contains something else, or other versions; choose another folder')
    if sys.version_info < LEAST_PYTHON:
        raise UserError(
            f'the peers need Python 3.11 or later, but this is {platform.python_version()}: use a newer one'
        )
    print(f'creating {folder}', flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as temporary:
        partial = Path(temporary) / folder.name
        try:
            output_of(sys.executable, '-m', 'venv', partial)
            output_of(partial / 'bin' / 'python', '-m', 'pip', 'install', '--quiet', '-r', REQUIREMENTS)
        except FailedError as error:
            raise UserError(f'--environment {folder}: cannot be created: {error}') from None
        (partial / REQUIREMENTS.name).write_text(requirements)
        partial.rename(folder)
    return folder / 'bin' / 'python'


def describe_machine(python):
    """Return the processor, its cores, the system, and the versions of what is measured."""
    program = 'import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))'
    packages = {'PyTorch': 'torch', 'ONNX Runtime': 'onnxruntime', 'OpenVINO': 'openvino', 'NNCF': 'nncf'}
    versions = dict(zip(packages, output_of(python, '-c', program, *packages.values()).split()))
    versions['MXNet'] = output_of(find_python(), '-c', program, 'mxnet').strip()
    cpu = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    cpu = cpu.group(1) if cpu else platform.machine()
    return {'cpu': cpu, 'cores': len(usable_cores()), 'system': platform.platform(), 'versions': versions}


def best_of(cases, task, batch_size, precision, names):
    """Return images/s per GFLOP/s of the best peer whose name starts with one of these; NaN if there is none."""
    wanted = (task, batch_size, precision)
    found = [case for case in cases if (case.task, case.batch_size, case.peer.precision) == wanted and case.turns]
    return max((case.images_per_gflop for case in found if case.peer.name.startswith(names)), default=math.nan)


def compute_ratios(network, cases):
    """Yield (what, compared with what, ratio, target) for each of the network's `RATIOS` that was measured."""
    for task, batch_size, precision, names, their_precision, target, ours in RATIOS[network]:
        ratio = best_of(cases, task, batch_size, precision, (ours,)) / best_of(
            cases, task, batch_size, their_precision, names
        )
        best = 'best of ' if len(names) > 1 or names[0] == 'PyTorch' else ''
        if not math.isnan(ratio):
            yield (
                f'{"" if ours == OURS else f"{ours}: "}{task}, batch {batch_size}, {precision}',
                f'{best}{", ".join(names)}, {their_precision}',
                ratio,
                target,
            )
    yield from compute_mean_ratios(cases)


def compute_mean_ratios(cases):
    """Yield the same for `--engine auto` and each peer that runs in float32 and int8: the geometric mean over both."""
    for name in INT8_PEERS:
        ratios = [
            best_of(cases, ratio.task, ratio.batch_size, ratio.precision, (AUTO,))
            / best_of(cases, ratio.task, ratio.batch_size, ratio.precision, (name,))
            for ratio in AUTO_RATIOS
        ]
        if not any(map(math.isnan, ratios)):
            yield f'{AUTO}: mean over the {len(ratios)} above', name, statistics.geometric_mean(ratios), 1.0


def median_pace(cases):
    """Return the machine's median pace over all turns of the run, in GFLOP/s."""
    return statistics.median([turn.gflops for case in cases for turn in case.turns] or [math.nan])


def speed_rows(cases, pace):
    """Yield the table rows of one task and batch size, with images/s at this pace."""
    ours = best_of(cases, cases[0].task, cases[0].batch_size, 'float32', (OURS,))
    for case in cases:
        difference = '' if case.difference is None else f'{case.difference:.1e}'
        speeds = ' '.join(f'{turn.ips / turn.gflops * pace:.2f}' for turn in case.turns)
        cells = [f'{case.images_per_gflop * pace:.2f}', f'{case.images_per_gflop / ours:.2f}', speeds]
        if case.failure is not None:
            cells = [f'failed: {case.failure}', '', '']
        yield (case.peer.name, case.peer.precision, *cells, difference)


def format_table(headers, rows):
    """Return a Markdown table that is also easy to read on a terminal."""
    rows = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    lines.insert(1, ' | '.join('-' * width for width in widths))
    return '\n'.join(f'| {line} |' for line in lines)


def format_results(network, machine, cases):
    """Return all results as Markdown."""
    versions = ', '.join(' '.join(pair) for pair in machine['versions'].items())
    others = statistics.median([turn.others for case in cases for turn in case.turns] or [0])
    pace = median_pace(cases)
    paces = [turn.gflops for case in cases for turn in case.turns] or [math.nan]
    parts = [
        f'{network}. {machine["cpu"]}, {machine["cores"]} cores, others used {others:.0%} of their time; {versions}. '
        f'Images/s at a pace of {pace:.0f} GFLOP/s; the pace was between {min(paces):.0f} and {max(paces):.0f}.'
    ]
    for (task, batch_size), group in itertools.groupby(cases, lambda case: (case.task, case.batch_size)):
        headers = (f'{task}, batch {batch_size}', 'precision', 'images/s', f'/ {OURS}', 'rounds', 'logits differ')
        parts.append(format_table(headers, speed_rows(list(group), pace)))
    rows = [
        (what, whom, f'{ratio:.2f}', f'{target:.2f}') for what, whom, ratio, target in compute_ratios(network, cases)
    ]
    return '\n\n'.join([*parts, format_table((OURS, 'compared with', 'ratio', 'target'), rows)]) + '\n'


def results_of(network, machine, rounds, cases):
    """Return all results for JSON."""
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
    names = ('what', 'compared with', 'ratio', 'target')
    ratios = [dict(zip(names, row)) for row in compute_ratios(network, cases)]
    return {'network': network, **machine, 'rounds': rounds, 'measured': measured, 'ratios': ratios}


def write_text(path, text):
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--network', choices=tuple(RATIOS), default='resnetv15', help='value of --arch (default: %(default)s)'
    )
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each (default: 3)')
    parser.add_argument(
        '--environment', type=Path, metavar='DIR', help="the peers' environment (default: in ~/.cache/imagenet-mxnet)"
    )
    parser.add_argument('--only', type=re.compile, default='', metavar='PATTERN', help='measure only matching cases')
    parser.add_argument('-o', '--output', type=Path, help='write all rounds to this file, as JSON')
    parser.add_argument('--markdown', type=Path, help='write the tables to this file')
    return parser.parse_args()


def measure(args, cases, python):
    """Take the turns of all cases, write the results after each round, and print them at the end."""
    machine = describe_machine(python)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        output_of(find_python(), BENCHMARKS / 'peer_network.py', folder, '--arch', args.network)
        for turn in range(args.rounds):
            for case in cases:
                if case.failure is None:
                    case.take_turn(folder, python)
                    print(f'round {turn + 1}/{args.rounds}, {case}: {case.last_turn()}', flush=True)
            if args.output is not None:
                write_text(args.output, json.dumps(results_of(args.network, machine, turn + 1, cases), indent=2) + '\n')
            if args.markdown is not None:
                write_text(args.markdown, format_results(args.network, machine, cases))
    print(f'\n{format_results(args.network, machine, cases)}', end='')


def main():
    args = parse_args()
    with one_line_errors():
        cases = [Case(*place, peer) for place in STEPS for peer in PEERS[place[0]]]
        cases = [case for case in cases if re.search(args.only, str(case))]
        if args.rounds < 1:
            raise UserError(f'--rounds {args.rounds}: must be at least 1')
        if not cases:
            raise UserError(
                f'--only {args.only.pattern}: matches no case; an example is "inference, batch 1: OpenVINO, int8"'
            )
        try:
            measure(args, cases, make_environment((args.environment or default_environment()).absolute()))
        except FailedError as error:
            raise UserError(f'nothing can be measured: {error}') from None


if __name__ == '__main__':
    main()
