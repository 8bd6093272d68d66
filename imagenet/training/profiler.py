"""Profiling of some steps with MXNet's profiler: a trace for Chrome, and a table of operators."""

import json
import os

from tabulate import tabulate

from imagenet.common.options import integer
from imagenet.runtime.compat import mx

# The first steps build the graph and choose algorithms.
STEPS_BEFORE = 2
OPERATORS_SHOWN = 10
TRACE_NAME = 'profile.json'
# By default, MXNet runs several operators as one and reports only their total time.
SINGLE_OPERATORS = {'MXNET_EXEC_BULK_EXEC_TRAIN': '0', 'MXNET_EXEC_BULK_EXEC_INFERENCE': '0'}


def add_profiling_args(parser):
    group = parser.add_argument_group('Profiling')
    group.add_argument(
        '--profile',
        type=integer(at_least=1),
        metavar='N',
        help=f'profile N steps of training, or of --mode val, after the first {STEPS_BEFORE}: write {TRACE_NAME} to '
        f'the workspace, for chrome://tracing, and print the {OPERATORS_SHOWN} operators that take the most time',
    )
    return group


def run_operators_one_by_one():
    """Make MXNet run its operators one by one, so that each can be timed. Call this before MXNet runs any."""
    os.environ.update(SINGLE_OPERATORS)


class Profiler:
    """The profiler of a loop, in a `with` block: counts its steps, and profiles as many as `--profile` requests.

    Args:
        steps: the value of --profile; None profiles nothing.
        folder: where the trace is written.
        log: a `RunLog`.
    """

    def __init__(self, steps, folder, log):
        self._steps = steps
        self._trace = folder / TRACE_NAME
        self._log = log
        self._done = 0
        self._is_written = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # After an error, profiling has not been finished.
        if self._is_running():
            mx.profiler.set_state('stop')

    def _is_running(self):
        return self._steps is not None and self._done >= STEPS_BEFORE and not self._is_written

    def step(self):
        """Count a step that has been pushed, and start or stop profiling if it is time to."""
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
        """Write the profile so far. Call this at the end of a loop, which may end before all requested steps."""
        if not self._is_running() or self._done == STEPS_BEFORE:
            return
        steps = min(self._done - STEPS_BEFORE, self._steps)
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
    """Return a text table of the operators that take the most time.

    Args:
        operators: MXNet's statistics by operator: `Count`, and milliseconds `Total`, in all profiled steps.
        steps: number of profiled steps.
    """
    whole = sum(operator['Total'] for operator in operators.values())
    slowest = sorted(operators.items(), key=lambda item: -item[1]['Total'])[:OPERATORS_SHOWN]
    rows = [
        [name, f'{operator["Count"] / steps:g}', f'{operator["Total"] / steps:.2f}', f'{operator["Total"] / whole:.1%}']
        for name, operator in slowest
    ]
    names = ['operator', 'calls per step', 'ms per step', 'of all operators']
    return tabulate(rows, names, disable_numparse=True, colalign=['left', 'right', 'right', 'right'])
