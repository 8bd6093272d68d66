#!/usr/bin/env python
"""The cost of a training step with frozen parameters, compared with a full one: time and peak memory.

    benchmarks/transfer.py [--batch-size 32] [--steps 10] [--rounds 3]

Trains ResNet-50 v1.5 at 224 px on synthetic data with each value of `--freeze`. Alternates between them in one run,
each in a separate process, and prints seconds per step, MiB, and the ratios to `--freeze none`. The first steps of each
do not count.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bare_loop import PROJECT, bound_threads

from imagenet.training.transfer import FROZEN


def measure(freeze, args):
    """Return (seconds per step, peak memory in MiB) of a run, without its first epoch."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', '--mode', 'train', '--device', 'cpu', '--data-backend', 'synthetic']
        command += ['-b', args.batch_size, '-e', 2, '--num-examples', args.batch_size * args.steps]
        command += ['--freeze', freeze, '--save-frequency', 0, '--workspace', workspace]
        peak = peak_memory([str(part) for part in command])
        metrics = json.loads((Path(workspace) / 'report.json').read_text())['metrics']
        return args.batch_size / metrics['train.total_ips'][1], peak


def peak_memory(command):
    """Run a program, and return its peak resident memory in MiB."""
    silent = [(os.POSIX_SPAWN_OPEN, sys.stdout.fileno(), os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, bound_threads(), file_actions=silent)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f'{" ".join(command)}: failed')
    return usage.ru_maxrss / 1024


def show(title, results):
    """Print the time and the memory with each value of --freeze, and the ratios."""
    seconds_of_all, memory_of_all = results['none']
    for freeze, (seconds, memory) in results.items():
        times = f'{seconds:.3f} s per step, ratio {seconds / seconds_of_all:.3f}'
        print(f'{title}: --freeze {freeze}: {times}; {memory:.0f} MiB, ratio {memory / memory_of_all:.3f}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--steps', type=int, default=10, help='steps measured in each round (default: 10)')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each (default: 3)')
    args = parser.parse_args()
    rounds = []
    for turn in range(args.rounds):
        rounds.append({freeze: measure(freeze, args) for freeze in FROZEN})
        show(f'round {turn + 1}', rounds[-1])
    medians = {freeze: map(statistics.median, zip(*(results[freeze] for results in rounds))) for freeze in FROZEN}
    show('median', {freeze: tuple(values) for freeze, values in medians.items()})


if __name__ == '__main__':
    main()
