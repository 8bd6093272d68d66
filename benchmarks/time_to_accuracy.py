#!/usr/bin/env python
"""Which of two recipes reaches an accuracy sooner, and how many times as long the other one takes.

    benchmarks/time_to_accuracy.py --top1 0.97 --data-root DATA --seeds 3 -e 8 \\
        --first '--image-shape 3,64,64' --second '--image-shape 3,64,64 --image-sizes 0:32,4:48,6:64'

Other options belong to both. Runs `./runner` with each recipe and each seed, alternating between the recipes, until a
validation reaches the accuracy or the run ends. Prints the seconds to that accuracy, validation included, the epochs
and the best accuracy of each run; then, over the seeds, the median seconds of each recipe and their ratio.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bare_loop import PROJECT, bound_threads
from tabulate import tabulate

from imagenet.reporting.report_file import read_report

RECIPES = ('first', 'second')


def measure(options, seed, top1):
    """Return (seconds to the accuracy or None, epochs, best top-1) of a run."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', *options, '--seed', seed, '--early-stop-top1', top1, '--workspace', workspace]
        command += ['--save-frequency', 0]
        subprocess.run(map(str, command), env=bound_threads(), stdout=subprocess.DEVNULL, check=True)
        report = read_report(Path(workspace) / 'report.json')
    reached = report.get('time_to_accuracy')
    return reached and reached['seconds'], len(report['metrics']['val.top1']), report['best']['top1']


def alternate(args, others):
    """Run each recipe with each seed. Return the seconds to the accuracy, as a list per recipe; None: not reached."""
    seconds, rows = {name: [] for name in RECIPES}, []
    for seed in range(args.seeds):
        # The first run of a pair may find the machine in another state than the second.
        for name in RECIPES if seed % 2 == 0 else RECIPES[::-1]:
            found, epochs, best = measure([*others, *shlex.split(getattr(args, name))], seed, args.top1)
            seconds[name].append(found)
            rows.append((seed, name, 'not reached' if found is None else f'{found:.1f}', epochs, f'{best:.4f}'))
            print('seed {}, {} recipe: {} s, {} epochs, best top-1 {}'.format(*rows[-1]), flush=True)
    print(tabulate(rows, headers=['seed', 'recipe', f'seconds to {args.top1:g}', 'epochs', 'best top-1']))
    return seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('--top1', type=float, required=True, help='the accuracy to reach, a fraction')
    parser.add_argument('--first', required=True, metavar='OPTIONS', help='options of `runner`; may contain @RECIPE')
    parser.add_argument('--second', required=True, metavar='OPTIONS', help='those of the other recipe')
    parser.add_argument('--seeds', type=int, default=3, help='runs of each recipe (default: 3)')
    args, others = parser.parse_known_args()
    seconds = alternate(args, others)
    if None in seconds['first'] + seconds['second']:
        sys.exit('the accuracy was not reached in every run: use a lower one, or more epochs')
    first, second = (statistics.median(seconds[name]) for name in RECIPES)
    ratios = [after / before for before, after in zip(*seconds.values())]
    print(f'median seconds to top-1 {args.top1:g}: {first:.1f} and {second:.1f}, ratio {second / first:.2f}', end='')
    print(f' (seed by seed: {", ".join(f"{ratio:.2f}" for ratio in ratios)})')


if __name__ == '__main__':
    main()
