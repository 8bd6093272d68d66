"""The logs of a run: a text log and a progress bar for people; DLLogger's JSON lines, TensorBoard and MLflow."""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from imagenet.common.errors import UserError
from imagenet.common.output import continue_without_output, new_losses
from imagenet.reporting.dllogger import METRIC_UNITS, DLLoggerFile
from imagenet.reporting.mlflow_run import MLflowRun, add_mlflow_args
from imagenet.reporting.tensorboard import TensorBoardFile

# Fits into 80 columns with the values that training adds.
BAR_FORMAT = '{desc} |{bar}| {n_fmt}/{total_fmt}{postfix}, {remaining} left'


def add_log_args(parser):
    group = parser.add_argument_group('Logs')
    group.add_argument(
        '--workspace',
        type=Path,
        default=Path('.'),
        help='folder for logs, report and checkpoints (default: %(default)s)',
    )
    group.add_argument(
        '--log', default='log.log', help='file name of the text log in the workspace (default: %(default)s)'
    )
    group.add_argument(
        '--dllogger-log',
        default='dllogger_log.log',
        help='file name of the JSON lines in the workspace (default: %(default)s)',
    )
    group.add_argument(
        '--tensorboard', type=Path, metavar='DIR', help='also write the metrics to this folder, for TensorBoard'
    )
    add_mlflow_args(group)
    group.add_argument(
        '--report', default='report.json', help='file name of the report in the workspace (default: %(default)s)'
    )
    return group


@dataclass(frozen=True)
class LogOptions:
    """The options of the same names: a folder, the names of files in it, TensorBoard's folder, MLflow's URI."""

    workspace: Path
    log: str
    dllogger_log: str
    tensorboard: Path
    mlflow: str


class _TerminalHandler(logging.Handler):
    """Prints to stdout, above the progress bar if there is one."""

    def emit(self, record):
        # A single write, because mpirun would put its tags in between.
        tqdm.write(self.format(record) + '\n', file=sys.stdout, end='')
        sys.stdout.flush()


class _FileHandler(logging.FileHandler):
    """Appends to a file, since `runner` may, too. An error ends the run: its checkpoints would fail in the same way."""

    def __init__(self, path, is_resumed):
        if not is_resumed:
            path.write_bytes(b'')
        super().__init__(path, encoding='utf-8')

    def handleError(self, record):  # noqa: N802, logging's name
        error = sys.exc_info()[1]
        raise UserError(f'{self.baseFilename}: cannot write this log ({error})') from None


class RunLog:
    """The logs of one run. Only the process with `is_writer` writes; the others' calls do nothing.

    A run continues if standard output or standard error goes away, with a line about it in the text log. A `with` block
    logs how the run ends.

    Args:
        options: `LogOptions`.
        is_resumed: whether to append to the existing files.
    """

    def __init__(self, options, is_writer, is_resumed=False):
        continue_without_output()
        self._is_writer = is_writer
        # The launcher sets PROGRESS_BAR if it shows our output on a terminal.
        self.shows_progress = is_writer and (sys.stderr.isatty() or 'PROGRESS_BAR' in os.environ)
        self._text = logging.getLogger('imagenet')
        self._text.setLevel(logging.INFO if is_writer else logging.CRITICAL + 1)
        self._text.propagate = False
        self._lines = self._board = self._mlflow = None
        if is_writer:
            self._text.addHandler(_TerminalHandler())
            self._text.addHandler(_FileHandler(options.workspace / options.log, is_resumed))
            self._lines = DLLoggerFile(options.workspace / options.dllogger_log, 'a' if is_resumed else 'w')
            self._board = TensorBoardFile(options.tensorboard) if options.tensorboard else None
            if options.mlflow:
                # Named after the log, so that a validation does not replace the file of a training run.
                path = options.workspace / f'{options.log}.mlflow.json'
                self._mlflow = MLflowRun(options.mlflow, path, is_resumed, self.info)
            for metric, unit in METRIC_UNITS.items():
                self._lines.metadata(metric, {'unit': unit})

    def info(self, message):
        """Log a line for people."""
        self._text.info(message)
        for loss in new_losses():
            self._text.info(f'{loss}; this log continues')

    def options(self, values):
        """Log the options of the run, values by name, for programs."""
        self.metrics('PARAMETER', values)
        if self._mlflow is not None:
            self._mlflow.log_options(values)

    def metrics(self, step, data, board_step=None):
        """Log a line for programs; see `DLLoggerFile` for `step`.

        Args:
            board_step: the position on the axis of TensorBoard and MLflow: the number of the step or, for the summary
                of an epoch, the number of the epoch; None to leave them out.
        """
        if self._is_writer:
            self._lines.log(step, data)
        for curves in (self._board, self._mlflow):
            if curves is not None and board_step is not None:
                # A curve over steps and one over epochs cannot share a name.
                prefix = 'epoch/' if len(step) == 1 else ''
                curves.log(board_step, {prefix + name: value for name, value in data.items()})

    def __enter__(self):
        return self

    def __exit__(self, error_type, *_):
        if error_type is None:
            self.end('FINISHED')
        else:
            self.end('KILLED' if issubclass(error_type, KeyboardInterrupt) else 'FAILED')

    def end(self, status):
        """Log how the run has ended: 'FINISHED', 'FAILED' or, by a signal, 'KILLED'. The first call counts."""
        if self._mlflow is not None:
            self._mlflow.end(status)

    def progress(self, total, description, done=0):
        """Return a progress bar of `total` steps, which is visible only on a terminal."""
        settings = {'leave': False, 'dynamic_ncols': True, 'disable': not self.shows_progress}
        return tqdm(total=total, initial=done, desc=description, bar_format=BAR_FORMAT, **settings)
