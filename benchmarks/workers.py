#!/usr/bin/env python
"""The cost of averaging gradients: two workers, each with half the threads and half the batch, compared with one.

    benchmarks/workers.py [--batch-size 32] [--steps 10] [--rounds 3]

Trains ResNet-50 v1.5 at 224 px on synthetic data on the CPU. Alternates between the two in one run, and prints images/s
of both, their ratio, and the share of a step spent on communication without overlap. The first epoch of each does not
count.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from bare_loop import PROJECT


def measure(workers, args):
    """Return (images/s, share of communication or 0) of the second epoch."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', '-n', workers, '-b', args.batch_size // workers, '-e', 2, '--mode', 'train']
        command += ['--device', 'cpu', '--data-backend', 'synthetic', '--num-examples', args.batch_size * args.steps]
        command += ['--save-frequency', 0, '--workspace', workspace]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        metrics = json.loads((Path(workspace) / 'report.json').read_text())['metrics']
        return metrics['train.total_ips'][1], metrics.get('train.comm_share', [0, 0])[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=32, help='images per step over all workers (default: 32)')
    parser.add_argument('--steps', type=int, default=10, help='steps measured in each round (default: 10)')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each (default: 3)')
    args = parser.parse_args()
    ratios = []
    for turn in range(args.rounds):
        (one, _), (two, share) = measure(1, args), measure(2, args)
        ratios.append(two / one)
        print(
            f'round {turn + 1}: one worker {one:.2f}, two workers {two:.2f} images/s, ratio {two / one:.3f}, '
            f'communication {100 * share:.1f} % of a step',
            flush=True,
        )
    print(f'median ratio {statistics.median(ratios):.3f}')


if __name__ == '__main__':
    main()
