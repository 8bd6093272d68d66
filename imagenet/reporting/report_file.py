"""report.json: written by runs, read by `report.py` and `benchmark.py`."""

import operator
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import write_json
from imagenet.reporting.json_files import read_json

VERSION = 1
SCHEMA = Path(__file__).resolve().with_name('report_schema.json')
# The prefixes of the metrics' names, the most important first.
PHASES = ('train', 'val', 'ema')
# The phases that validate, and what they validate.
VALIDATED = {'val': 'the parameters', 'ema': 'the averaged parameters'}


class Report:
    """The report of one run, in the format of `report_schema.json`.

    Attributes:
        model: name of the network.
        ngpus: number of devices (GPUs, or CPU processes) over all processes.
        total_duration: seconds that the run has taken, including those before it was resumed.
        time_to_accuracy: None until the accuracy of `--early-stop-top1` is reached; then that `top1`, and the `epochs`
            and `seconds` it took.
        cmd: the command, a list of arguments.
        options: the value of every option, by name, as JSON has it; None if unknown.
        environment: what the run computed on and with: texts by name; None if unknown.
        metrics: a list per name with one value per epoch. `{train,val,ema}.{top1,top5}` are fractions, `.loss` is the
            mean per example, `.total_ips` images per second over all devices, `.time` and `.latency_*` seconds, the
            latter per batch (mean and percentiles). `train.lr` is the learning rate at the end of the epoch,
            `train.comm_share` the share of a step spent averaging gradients, measured without overlap. `ema` is
            validation with averaged parameters, `val.real_top1` the accuracy with reassessed labels.
    """

    def __init__(self, model, ngpus, cmd, options=None, environment=None):
        self.model = model
        self.ngpus = ngpus
        self.cmd = list(cmd)
        self.options = options
        self.environment = environment
        self.total_duration = 0.0
        self.time_to_accuracy = None
        self.metrics = {}

    def add(self, phase, values):
        """Add one epoch's values of a phase ('train', 'val' or 'ema')."""
        for name, value in values.items():
            self.metrics.setdefault(f'{phase}.{name}', []).append(value)

    @property
    def best(self):
        """See `find_best`."""
        return find_best(self.metrics)

    def save(self, path):
        """Write the report; a reader finds the previous one or this one, never a part."""
        content = {
            'version': VERSION,
            'model': self.model,
            'ngpus': self.ngpus,
            'total_duration': self.total_duration,
            'cmd': self.cmd,
            'metrics': self.metrics,
        }
        for name in ('best', 'time_to_accuracy', 'options', 'environment'):
            if getattr(self, name) is not None:
                content[name] = getattr(self, name)
        write_json(path, content)


def find_best(metrics):
    """Return the best validation of all epochs, of the parameters or of the averaged ones; None if there is none.

    It consists of the `phase` ('val' or 'ema'), the `epoch`, from 1, and the `top1`. The first of equals counts.
    """
    found = [
        {'phase': phase, 'epoch': epoch, 'top1': top1}
        for phase in VALIDATED
        for epoch, top1 in enumerate(metrics.get(f'{phase}.top1', []), 1)
    ]
    return max(found, key=operator.itemgetter('top1'), default=None)


def describe_best(best):
    """Return a line about the `best` of a report."""
    return f'best top-1 {best["top1"]:.4f} in epoch {best["epoch"]}, of {VALIDATED[best["phase"]]}'


def read_report(path):
    """Return the content of a report as a dict; older reports, which have no version, are read as the current one.

    Raises:
        UserError: the file is not a report.
    """
    return read_json(path, SCHEMA, 'a report')


def is_of_training(path):
    """Return whether the file is the report of a run that trained."""
    try:
        return any(name.startswith('train.') for name in read_report(path)['metrics'])
    except UserError:
        return False
