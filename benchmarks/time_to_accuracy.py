#!/usr/bin/env python
"""Which of two recipes reaches an accuracy sooner, and how many times as long the other one takes.

    benchmarks/time_to_accuracy.py --top1 0.9,0.95,0.97 --data-root DATA --seeds 3 -e 8 \\
        --first '--image-shape 3,64,64' --second '--image-shape 3,64,64 --image-sizes 0:32,4:48,6:64'

Other options belong to both. Runs `./runner` with each recipe and each seed to the end, alternating between the two.
Prints the seconds of each run, validation included, its accuracy after each epoch, and when it reached each of the
given accuracies; then the ratio of the seconds, second to first, as the median over the seeds.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import tempfile
from collections import namedtuple
from pathlib import Path

from bare_loop import PROJECT, bound_threads
from tabulate import tabulate

RECIPES = ('first', 'second')
# What dllogger_log.log has before each line of JSON.
PREFIX = 'DLLL '

# The seconds from the start of a run to the end of each epoch, and the top-1 of each.
Curve = namedtuple('Curve', 'seconds top1')


def measure(options, seed):
    """Return the `Curve` of a run."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', *options, '--seed', seed, '--workspace', workspace, '--save-frequency', 0]
        subprocess.run(map(str, command), env=bound_threads(), stdout=subprocess.DEVNULL, check=True)
        return read_curve(Path(workspace) / 'dllogger_log.log')


def read_curve(log):
    """Return the `Curve` in a log: the lines of epochs have one number as their step, those of steps two."""
    lines = [json.loads(line[len(PREFIX) :]) for line in log.read_text().splitlines()]
    epochs = [line for line in lines if line['type'] == 'LOG' and len(line['step']) == 1]
    return Curve([float(line['elapsedtime']) for line in epochs], [line['data']['val.accuracy'] for line in epochs])


def seconds_to(top1, curve):
    """Return the seconds after which a `Curve` has reached an accuracy; None if it has not."""
    return next((seconds for seconds, found in zip(*curve) if found >= top1), None)


def alternate(args, others):
    """Run each recipe with each seed. Return the `Curve`s of each recipe."""
    curves = {name: [] for name in RECIPES}
    for seed in range(args.seeds):
        # The first run of a pair may find the machine in another state than the second.
        for name in RECIPES if seed % 2 == 0 else RECIPES[::-1]:
            curve = measure([*others, *shlex.split(getattr(args, name))], seed)
            curves[name].append(curve)
            found = ' '.join(f'{top1:.4f}' for top1 in curve.top1)
            print(f'seed {seed}, {name} recipe: {curve.seconds[-1]:.1f} s; top-1 after each epoch: {found}', flush=True)
    return curves


def rows_of(curves, wanted):
    """Yield (what, seconds of both recipes for each seed, median ratio): to each accuracy, and of whole runs."""
    for top1 in wanted:
        both = [[seconds_to(top1, curve) for curve in curves[name]] for name in RECIPES]
        yield (f'seconds to {top1:g}', *map(_shown, both), _ratio(*both))
    both = [[curve.seconds[-1] for curve in curves[name]] for name in RECIPES]
    yield ('seconds in all', *map(_shown, both), _ratio(*both))
    best = [[max(curve.top1) for curve in curves[name]] for name in RECIPES]
    yield ('best top-1', *(' '.join(f'{top1:.4f}' for top1 in found) for found in best), '')


def _shown(seconds):
    return ' '.join('-' if value is None else f'{value:.1f}' for value in seconds)


def _ratio(first, second):
    if None in first + second:
        return 'not reached'
    ratios = [after / before for before, after in zip(first, second)]
    return f'{statistics.median(ratios):.2f} ({" ".join(f"{ratio:.2f}" for ratio in ratios)})'


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        '--top1',
        type=lambda text: [float(part) for part in text.split(',')],
        required=True,
        help='accuracies, fractions with commas between them',
    )
    parser.add_argument('--first', required=True, metavar='OPTIONS', help='options of `runner`; may contain @RECIPE')
    parser.add_argument('--second', required=True, metavar='OPTIONS', help='those of the other recipe')
    parser.add_argument('--seeds', type=int, default=3, help='runs of each recipe (default: 3)')
    args, others = parser.parse_known_args()
    rows = rows_of(alternate(args, others), args.top1)
    print(
        tabulate(rows, headers=['', *(f'{name} recipe, by seed' for name in RECIPES), 'ratio'], disable_numparse=True)
    )


if __name__ == '__main__':
    main()
