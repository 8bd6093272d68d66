#!/usr/bin/env python
"""The cost of the training loop: `./runner` compared with a bare MXNet loop with the same blocks, threads and batch.

    benchmarks/step_overhead.py [--batch-size 32] [--steps 20] [--rounds 3]

Trains ResNet-50 v1.5 at 224 px on synthetic data. Alternates between the two in one run, each in a separate process,
and prints images/s of both and their ratio. The first steps of each do not count.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from bare_loop import PROJECT, bare_loop, output_of


def measure_bare_loop(args):
    command = (sys.executable, __file__, '--bare', '--batch-size', args.batch_size, '--steps', args.steps)
    return float(output_of(*command))


def measure_runner(args):
    """Return images/s of the second epoch, so that the first steps do not count."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', '--mode', 'train', '--device', 'cpu', '--data-backend', 'synthetic']
        command += ['-b', args.batch_size, '-e', 2, '--num-examples', args.batch_size * args.steps]
        output_of(*command, '--save-frequency', 0, '--workspace', workspace)
        report = json.loads((Path(workspace) / 'report.json').read_text())
        return report['metrics']['train.total_ips'][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--steps', type=int, default=20, help='steps measured in each round (default: 20)')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each (default: 3)')
    parser.add_argument('--bare', action='store_true', help='measure the bare loop once, in this process')
    args = parser.parse_args()
    if args.bare:
        print(bare_loop(args.batch_size, args.steps, fuse_bn_relu=1))
        return
    rounds = []
    for turn in range(args.rounds):
        bare, runner = measure_bare_loop(args), measure_runner(args)
        rounds.append((bare, runner))
        print(f'round {turn + 1}: bare loop {bare:.2f}, runner {runner:.2f} images/s, ratio {runner / bare:.3f}')
    bare, runner = (statistics.median(speeds) for speeds in zip(*rounds))
    print(f'median: bare loop {bare:.2f}, runner {runner:.2f} images/s, ratio {runner / bare:.3f}')


if __name__ == '__main__':
    main()
