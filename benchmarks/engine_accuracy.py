#!/usr/bin/env python
"""The accuracy of a network with each engine and precision, in one table.

    benchmarks/engine_accuracy.py --load demo/run/model_best.params --data-root demo/digits [-b 32]

Makes the int8 networks first (`--mode calibrate`), in a temporary folder. Other options go to `runner`. Precisions that
an engine or the processor lacks are left empty; whatever else fails ends the program.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bare_loop import PROJECT, bound_threads
from tabulate import tabulate

from imagenet.inference.engines import BFLOAT16, ENGINES, FLOAT32, MXNET
from imagenet.reporting.report_file import read_report
from imagenet.runtime import processor

INT8 = 'int8'
METRICS = ('val.top1', 'val.top5', 'val.loss')


def run(*options):
    command = [str(part) for part in (PROJECT / 'runner', '--device', 'cpu', *options)]
    subprocess.run(command, env=bound_threads(), stdout=subprocess.DEVNULL, check=True)


def has(engine, precision):
    """Return whether an engine computes in a precision on this machine."""
    if precision != BFLOAT16:
        return True
    return processor.instruction_set().bfloat16 is not None and (engine == MXNET or BFLOAT16 in ENGINES[engine].DTYPES)


def measure(engine, precision, networks, options):
    """Return the metrics of a validation, in the order of `METRICS`."""
    with tempfile.TemporaryDirectory() as workspace:
        chosen = ['--engine', engine, '--load', networks[precision], '--workspace', workspace]
        chosen += ['--inference-dtype', precision] if precision == BFLOAT16 else []
        run('--mode', 'val', *chosen, *options)
        metrics = read_report(Path(workspace) / 'report.json')['metrics']
    return [metrics[name][0] for name in METRICS]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('--load', type=Path, required=True, help='a checkpoint')
    args, options = parser.parse_known_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / 'network'
        run('--mode', 'calibrate', '--load', args.load, '-o', prefix, '--workspace', folder, *options)
        networks = {FLOAT32: args.load, BFLOAT16: args.load, INT8: f'{prefix}-int8'}
        for precision in networks:
            for engine in (MXNET, *ENGINES):
                if has(engine, precision):
                    metrics = measure(engine, precision, networks, options)
                    rows.append((precision, engine, *(f'{value:.5f}' for value in metrics)))
                    print(*rows[-1], file=sys.stderr)
    print(tabulate(rows, headers=('precision', 'engine', 'top-1', 'top-5', 'loss'), disable_numparse=True))


if __name__ == '__main__':
    main()
