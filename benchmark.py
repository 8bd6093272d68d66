#!/usr/bin/env python3
"""Runs sweeps over numbers of devices, batch sizes and engines: one run of `runner` for each combination.

    ./benchmark.py -n 1,2,4,8 -b 64,128,192 -i 100 -e 3 -w 1 --mode train_val -o sweep.json
    ./benchmark.py -n 1 -b 1,2,4,8,16,32 --mode val --data-backend synthetic -o inference.json --plot inference.png
    ./benchmark.py -n 1 -b 1,32 --mode val --engine mxnet,onnxruntime,openvino --plot engines.png

Unknown options are passed to `runner`. An interrupted sweep resumes where it stopped.
"""

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('tabulate', 'rich', 'jsonschema', 'matplotlib')

import itertools
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from imagenet.common.errors import FAILED_EXIT_CODE, INTERRUPTED_EXIT_CODE, UserError, one_line_errors
from imagenet.common.files import has_writable_folder
from imagenet.common.modes import Mode
from imagenet.common.options import ArgumentParser, comma_separated, integer, with_changes
from imagenet.common.output import continue_without_output
from imagenet.common.program import run_program
from imagenet.common.virtualenv import find_python
from imagenet.inference.engines import ENGINE_NAMES, check_installed
from imagenet.reporting.report_file import PHASES, read_report
from imagenet.reporting.sweep import LiveTable, Sweep, markdown_tables, plot, text_tables

PROJECT = Path(__file__).resolve().parent
PERCENTILES = tuple(f'latency_{percentile}' for percentile in (50, 90, 95, 99, 100))
# The metrics of each phase. Percentiles of training are left out, because they include waiting for data.
METRICS = {'train': ('total_ips', 'latency_avg'), 'val': ('total_ips', 'latency_avg', *PERCENTILES)}
SECONDS_TO_END = 15
# Options of runner that determine where a run writes its report and what it measures, and what to do instead.
SET_HERE = ('--workspace', '--report', '--save-frequency', '--no-resume', '--run-epochs', '--begin-epoch')
SET_HERE += ('--early-stop-top1', '--test-io', '--check', '--check-only')
OWN_OPTIONS = {'--batch-size': 'use -b', '--num-epochs': 'use -e', **dict.fromkeys(SET_HERE, 'leave it out')}
# The system waits no longer.
LONGEST_TIMEOUT = 10**6


class RunFailedError(Exception):
    """A run has measured nothing; the message is the reason, in one line."""


def parse_args(argv=None):
    parser = ArgumentParser(
        description='Runs `runner` for every combination of device count, batch size and engine, and collects the '
        'measurements. Unknown options are passed to runner. An interrupted sweep resumes where it stopped.'
    )
    numbers, count = comma_separated(integer(at_least=1)), integer(at_least=1)
    parser.add_argument(
        '-n', '--ngpus', type=numbers, default=(1,), help='numbers of devices, such as 1,2,4 (default: 1)'
    )
    parser.add_argument(
        '-b', '--batch-sizes', type=numbers, required=True, help='images per device and step, such as 32,64,128'
    )
    parser.add_argument(
        '--engine',
        type=comma_separated(str),
        metavar='ENGINE,…',
        help=f'engines of --mode val to compare, some of {", ".join(ENGINE_NAMES)} (default: only mxnet)',
    )
    parser.add_argument('-i', '--benchmark-iters', type=count, default=100, help='steps per epoch (default: 100)')
    parser.add_argument('-e', '--epochs', type=count, default=1, help='epochs, warm-up included (default: %(default)s)')
    parser.add_argument(
        '-w',
        '--warmup',
        type=integer(at_least=0),
        default=0,
        help='epochs that are not measured, the first ones (default: 0)',
    )
    parser.add_argument(
        '--timeout', type=float, default=math.inf, help='seconds that one run may take (default: no limit)'
    )
    parser.add_argument(
        '--mode',
        type=Mode.of,
        choices=(Mode.TRAIN_VAL, Mode.TRAIN, Mode.VAL),
        default=Mode.TRAIN_VAL,
        help='what to measure (default: %(default)s)',
    )
    parser.add_argument('--only-inference', action='store_true', help='the same as --mode val')
    parser.add_argument('--executable', default='./runner', help='the command to run (default: %(default)s)')
    parser.add_argument('--dry-run', action='store_true', help='print what the runs would start, and start nothing')
    parser.add_argument('-o', '--output', type=Path, help='write the results to this file, as JSON')
    parser.add_argument('--markdown', type=Path, help='write the table to this file, as Markdown')
    parser.add_argument('--plot', type=Path, help='plot the results to this file, for example sweep.png')
    return parser.parse_known_args(argv)


def check_args(args):
    """Raise `UserError` for numbers that repeat or contradict each other, and for what cannot be run or written."""
    for option, values in (('-n', args.ngpus), ('-b', args.batch_sizes), ('--engine', args.engine or ())):
        if len(set(values)) < len(values):
            raise UserError(f'{option} {",".join(map(str, values))}: no value may repeat')
    if args.engine is not None:
        check_engines(args)
    if not args.warmup < args.epochs:
        raise UserError(f'-w {args.warmup}: must be less than -e {args.epochs}, so that an epoch is left to measure')
    try:
        shlex.split(args.executable)
    except ValueError as error:
        raise UserError(f'--executable {args.executable}: not a command ({error})') from None
    if not args.timeout > 0:
        raise UserError(f'--timeout {args.timeout:g}: must be more than 0 seconds')
    for option in ('output', 'markdown', 'plot'):
        path = getattr(args, option)
        if path is not None and not has_writable_folder(path):
            raise UserError(f'--{option} {path}: no such folder, or it is not writable; choose another one')


def check_engines(args):
    unknown = [name for name in args.engine if name not in ENGINE_NAMES]
    if unknown:
        raise UserError(f'--engine {",".join(args.engine)}: must be some of {", ".join(ENGINE_NAMES)}')
    if args.mode is not Mode.VAL:
        raise UserError(f'--engine {",".join(args.engine)}: needs --mode val')
    for name in args.engine:
        check_installed(name)


def check_others(argv):
    """Raise `UserError` for an option of runner that benchmark.py sets itself. In a recipe, it has no effect."""
    for option in (text.split('=')[0] for text in argv):
        if option in OWN_OPTIONS:
            raise UserError(f'{option}: benchmark.py sets this option of runner itself; {OWN_OPTIONS[option]}')


def metric_keys(mode):
    """Return the names of the measured metrics, as in reports."""
    return [f'{phase}.{name}' for phase in PHASES if phase in mode for name in METRICS[phase]]


def run_command(args, others, one, workspace):
    """Return the command of one `Run`."""
    executable = args.executable if args.executable != './runner' else str(PROJECT / 'runner')
    options = {'-n': one.ngpus, '-b': one.batch_size, '-e': args.epochs, '--mode': args.mode}
    options.update({'--benchmark-iters': args.benchmark_iters, '--save-frequency': 0, '--workspace': workspace})
    options.update({'--engine': one.engine} if one.engine else {})
    pairs = [str(part) for pair in options.items() for part in pair]
    # The accuracy of a training that ends after some steps means nothing.
    flags = ['--no-metrics'] if args.mode.trains else []
    # The last ones count.
    return [*shlex.split(executable), *others, *pairs, *flags]


def measure(args, others, one):
    """Run one `Run`.

    Returns:
        The name of the network, and metrics by name.

    Raises:
        RunFailedError: the run failed, or its report lacks these metrics.
    """
    with tempfile.TemporaryDirectory(prefix='benchmark-') as workspace:
        command = run_command(args, others, one, workspace)
        run(command, args.timeout)
        try:
            report = read_report(Path(workspace) / 'report.json')
            values = {name: report['metrics'][name][args.warmup :] for name in metric_keys(args.mode)}
            return report['model'], {name: mean_over_epochs(name, measured) for name, measured in values.items()}
        except (UserError, KeyError, ZeroDivisionError) as error:
            raise RunFailedError(f'the run left no such measurements ({error})') from None


def run(command, timeout):
    """Run a command until it ends.

    Raises:
        RunFailedError: the command failed or took too long.
        UserError: the command cannot be started.
    """
    pipes = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE, 'text': True, 'errors': 'backslashreplace'}
    with explained_start(command):
        process = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        _, errors = process.communicate(timeout=None if timeout == math.inf else min(timeout, LONGEST_TIMEOUT))
    except subprocess.TimeoutExpired:
        end(process)
        raise RunFailedError(f'took more than {timeout:g} s') from None
    except KeyboardInterrupt:
        end(process)
        raise
    if process.returncode != 0:
        raise RunFailedError(describe_failure(process.returncode, errors))


@contextmanager
def explained_start(command):
    """Raise `UserError` if the block cannot start a command."""
    try:
        yield
    except OSError as error:
        raise UserError(f'--executable {command[0]}: cannot run this ({error.strerror})') from None


def describe_failure(returncode, errors):
    """Return one line: how a run ended, and its last line on stderr."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    how = f'was ended by {signal.Signals(-returncode).name}' if returncode < 0 else f'ended with exit code {returncode}'
    return f'{how}: {lines[-1]}' if lines else how


def end(process):
    """End a run and all processes that it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def mean_over_epochs(name, values):
    """Return the mean over the measured epochs: for speeds, the harmonic mean, which is images over seconds."""
    if name.endswith('.total_ips'):
        return len(values) / sum(1 / value for value in values)
    return sum(values) / len(values)


def describe_environment(args, others):
    """Return what the numbers depend on: the machine, versions and options."""
    command = [find_python(), '-m', 'imagenet.runtime.system_info', '--json']
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    machine = json.loads(result.stdout) if result.returncode == 0 else {'unknown': result.stderr.strip()}
    options = {name: getattr(args, name) for name in ('mode', 'benchmark_iters', 'epochs', 'warmup', 'executable')}
    return {**machine, 'options': {**options, 'runner': others}}


def run_sweep(args, others, sweep):
    """Run everything that is still missing, and save the results after each run."""
    with LiveTable(sweep) as table:
        for one in itertools.filterfalse(sweep.is_done, sweep.runs()):
            table.begin(one)
            try:
                sweep.add(one, *measure(args, others, one))
            except RunFailedError as failure:
                sweep.fail(one, str(failure))
            if args.output is not None:
                sweep.save(args.output)
            table.end(one)


def print_dry_runs(args, others, sweep):
    """Print the command that `runner` would start for each run; end with its exit code if it finds an error."""
    for one in sweep.runs():
        command = [*run_command(args, others, one, 'WORKSPACE'), '--dry-run']
        with explained_start(command):
            returncode = subprocess.run(command).returncode
        if returncode:
            sys.exit(max(returncode, FAILED_EXIT_CODE))


def main():
    with one_line_errors():
        args, others = parse_args()
        args = with_changes(args, mode=Mode.VAL if args.only_inference else args.mode)
        check_args(args)
        check_others(sys.argv[1:])
        if args.dry_run:
            print_dry_runs(args, others, Sweep(args.ngpus, args.batch_sizes, (), {}, args.engine))
            return
        if args.output or args.markdown or args.plot:
            continue_without_output()
        environment = describe_environment(args, others)
        sweep = Sweep(args.ngpus, args.batch_sizes, metric_keys(args.mode), environment, args.engine)
        done = sweep.resume(args.output)
        if done:
            print(f'{args.output}: {done} of {len(sweep.runs())} runs are done', flush=True)
        started = time.monotonic()
        try:
            run_sweep(args, others, sweep)
        except KeyboardInterrupt:
            goes_on = f'; the same command resumes from {args.output}' if args.output is not None else ''
            print(f'{text_tables(sweep)}\ninterrupted{goes_on}')
            sys.exit(INTERRUPTED_EXIT_CODE)
        print(f'{text_tables(sweep)}\n{time.monotonic() - started:.0f} s')
        if args.markdown is not None:
            args.markdown.write_text(markdown_tables(sweep), encoding='utf-8')
        if args.plot is not None:
            plot(sweep, args.plot)
        sys.exit(FAILED_EXIT_CODE if sweep.failures() else 0)


if __name__ == '__main__':
    run_program(main)
