#!/usr/bin/env python
"""What benchmark.py costs: images/s of runs that it starts, beside the same runs without it, by turns.

    benchmarks/sweep_overhead.py [--rounds 6]

Inference of ResNet-50 at 224 px on synthetic data on the CPU; the first pass of each run is left out. Which of the two
is first changes from round to round, since this machine's speed may follow what ran before.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bare_loop import PROJECT

BATCH_SIZE, STEPS = 16, 20
OPTIONS = ['--mode', 'val', '--device', 'cpu', '--data-backend', 'synthetic']


def measure_alone(folder):
    command = [PROJECT / 'runner', '-n', 1, '-b', BATCH_SIZE, '-e', 2, '--benchmark-iters', STEPS, *OPTIONS]
    run([*command, '--workspace', folder])
    return json.loads((folder / 'report.json').read_text())['metrics']['val.total_ips'][1]


def measure_in_a_sweep(folder):
    command = [sys.executable, PROJECT / 'benchmark.py', '-b', BATCH_SIZE, '-i', STEPS, '-e', 1, '-w', 1, *OPTIONS]
    run([*command, '-o', folder / 'sweep.json'])
    return json.loads((folder / 'sweep.json').read_text())['metrics']['1'][str(BATCH_SIZE)]['val.total_ips']


def run(command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=6, help='turns of each (default: 6)')
    args = parser.parse_args()
    ratios = []
    for turn in range(args.rounds):
        order = (measure_alone, measure_in_a_sweep)[:: 1 if turn % 2 == 0 else -1]
        with tempfile.TemporaryDirectory() as folder:
            found = {measure: measure(Path(folder)) for measure in order}
        alone, swept = found[measure_alone], found[measure_in_a_sweep]
        ratios.append(swept / alone)
        print(
            f'round {turn + 1}: alone {alone:.2f}, in a sweep {swept:.2f} images/s, ratio {ratios[-1]:.3f}', flush=True
        )
    print(f'median ratio {statistics.median(ratios):.3f}')


if __name__ == '__main__':
    main()
