#!/usr/bin/env python
"""The effect of the instruction set: training in float32 and bfloat16 with the processor's own and with older ones.

    benchmarks/instruction_sets.py [--batch-size 16] [--steps 6] [--rounds 2]

Trains a ResNet-18 at 224 px on synthetic data. Alternates between the cases in one run, and prints images/s and the
ratio to the first case.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from bare_loop import PROJECT

from imagenet.reporting.report_file import read_report
from imagenet.runtime.processor import INSTRUCTION_SETS, LIMIT, cpu_flags, instruction_set


def cases():
    """Return (limit, options) of what this processor supports, the best first."""
    flags, own = cpu_flags(), instruction_set()
    own_and_older = INSTRUCTION_SETS[: INSTRUCTION_SETS.index(own) + 1]
    found = [older for older in reversed(own_and_older) if flags.issuperset(older.flags)]
    return [(older.name, ()) for older in found] + [(older.name, ('--amp',)) for older in found if older.bfloat16]


def measure(limit, options, args):
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', '--device', 'cpu', '--data-backend', 'synthetic', '--num-layers', '18']
        command += ['--mode', 'train', '-e', '2', '--save-frequency', '0', '-b', args.batch_size, *options]
        command += ['--num-examples', args.batch_size * args.steps, '--workspace', workspace]
        environment = {**os.environ, LIMIT: limit}
        subprocess.run(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, check=True)
        # The first epoch includes the startup.
        return read_report(Path(workspace) / 'report.json')['metrics']['train.total_ips'][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--steps', type=int, default=6, help='steps per epoch (default: 6)')
    parser.add_argument('--rounds', type=int, default=2, help='measurements of each case (default: 2)')
    args = parser.parse_args()
    speeds = {case: [] for case in cases()}
    for _ in range(args.rounds):
        for case, measured in speeds.items():
            measured.append(measure(*case, args))
    baseline = statistics.median(next(iter(speeds.values())))
    print(f'images/s, median of {args.rounds}, batch {args.batch_size}')
    for (limit, options), measured in speeds.items():
        speed = statistics.median(measured)
        print(f'{" ".join((limit, *options)):24} {speed:7.2f}  x {speed / baseline:.3f}')


if __name__ == '__main__':
    main()
