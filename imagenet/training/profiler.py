"""Where the time goes: MXNet's profiler over some steps, as a trace for Chrome and as a table of operators."""

import json
import os

from tabulate import tabulate

from imagenet.common.options import integer
from imagenet.runtime.compat import mx

# The first steps make the graph and choose algorithms.
STEPS_BEFORE = 2
OPERATORS_SHOWN = 10
TRACE_NAME = 'profile.json'
# MXNet runs several operators as one, and then tells their time together.
SINGLE_OPERATORS = {'MXNET_EXEC_BULK_EXEC_TRAIN': '0', 'MXNET_EXEC_BULK_EXEC_INFERENCE': '0'}


def add_profiling_args(parser):
    group = parser.add_argument_group('Profiling')
    group.add_argument(
        '--profile',
        type=integer(at_least=1),
        metavar='N',
        help=f'profile N steps of training, or of --mode val, after the first {STEPS_BEFORE}: writes {TRACE_NAME} in '
        f'the workspace, for chrome://tracing, and prints the {OPERATORS_SHOWN} operators that take most time',
    )
    return group


def run_operators_one_by_one():
    """Has MXNet run its operators one by one, so that each can be timed; to be called before it runs any."""
    os.environ.update(SINGLE_OPERATORS)


class Profiler:
    """Counts the steps that a loop takes, and profiles those that were asked for; nothing without `--profile`.

    Args:
        steps: of --profile; None profiles nothing.
        folder: where the trace goes.
        log: a `RunLog`.
    """

    def __init__(self, steps, folder, log):
        self._steps = steps
        self._trace = folder / TRACE_NAME
        self._log = log
        self._done = 0
        self._is_written = False

    def step(self):
        """Takes note of a step that has been pushed."""
        if self._steps is None:
            return
        self._done += 1
        if self._done == STEPS_BEFORE:
            mx.nd.waitall()
            mx.profiler.set_config(
                profile_symbolic=True, profile_imperative=True, aggregate_stats=True, filename=str(self._trace)
            )
            mx.profiler.set_state('run')
        elif self._done == STEPS_BEFORE + self._steps:
            self.finish()

    def finish(self):
        """Writes what there is; for the end of a loop, which may come before all steps that were asked for."""
        steps = min(self._done - STEPS_BEFORE, self._steps or 0)
        if steps < 1 or self._is_written:
            return
        self._is_written = True
        mx.nd.waitall()
        mx.profiler.set_state('stop')
        operators = json.loads(mx.profiler.dumps(format='json'))['Time']['operator']
        mx.profiler.dump()
        self._log.info(
            f'{operator_table(operators, steps)}\nprofile of {steps} steps, operators run one by one: '
            f'{self._trace}, for chrome://tracing'
        )


def operator_table(operators, steps):
    """The operators that take most time, as text.

    Args:
        operators: MXNet's statistics by name: `Count` and milliseconds `Total` in all steps.
        steps: how many these were.
    """
    whole = sum(operator['Total'] for operator in operators.values())
    slowest = sorted(operators.items(), key=lambda item: -item[1]['Total'])[:OPERATORS_SHOWN]
    rows = [
        [name, f'{operator["Count"] / steps:g}', f'{operator["Total"] / steps:.2f}', f'{operator["Total"] / whole:.1%}']
        for name, operator in slowest
    ]
    names = ['operator', 'calls per step', 'ms per step', 'of all operators']
    return tabulate(rows, names, disable_numparse=True, colalign=['left', 'right', 'right', 'right'])
