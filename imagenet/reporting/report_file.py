"""report.json: written by runs, read by `report.py` and `benchmark.py`."""

import json
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import write_json

VERSION = 1
SCHEMA = Path(__file__).resolve().with_name('report_schema.json')
# The prefixes of the metrics' names, the most important first.
PHASES = ('train', 'val', 'ema')


class Report:
    """The report of one run, in the format of `report_schema.json`.

    Attributes:
        model: name of the network.
        ngpus: number of devices (GPUs, or CPU processes) over all processes.
        total_duration: seconds that the run has taken, including those before it was resumed.
        time_to_accuracy: None until the accuracy of `--early-stop-top1` is reached; then that `top1`, and the `epochs`
            and `seconds` it took.
        cmd: the command, a list of arguments.
        metrics: a list per name with one value per epoch. `{train,val,ema}.{top1,top5}` are fractions, `.loss` is the
            mean per example, `.total_ips` images per second over all devices, `.time` and `.latency_*` seconds, the
            latter per batch (mean and percentiles). `train.lr` is the learning rate at the end of the epoch,
            `train.comm_share` the share of a step spent averaging gradients, measured without overlap. `ema` is
            validation with averaged parameters.
    """

    def __init__(self, model, ngpus, cmd):
        self.model = model
        self.ngpus = ngpus
        self.cmd = list(cmd)
        self.total_duration = 0.0
        self.time_to_accuracy = None
        self.metrics = {}

    def add(self, phase, values):
        """Add one epoch's values of a phase ('train', 'val' or 'ema')."""
        for name, value in values.items():
            self.metrics.setdefault(f'{phase}.{name}', []).append(value)

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
        if self.time_to_accuracy is not None:
            content['time_to_accuracy'] = self.time_to_accuracy
        write_json(path, content)


def read_report(path):
    """Return the content of a report as a dict; older reports, which have no version, are read as the current one.

    Raises:
        UserError: the file is not a report.
    """
    # Imported here because training only writes reports.
    import jsonschema

    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: cannot read this report ({error.strerror})') from None
    except ValueError as error:
        raise UserError(f'{path}: not JSON ({error})') from None
    if isinstance(content, dict) and content.get('version', VERSION) != VERSION:
        raise UserError(f'{path}: a report of version {content["version"]}; this package reads version {VERSION}')
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text(encoding='utf-8')))
    for error in validator.iter_errors(content):
        place = '.'.join(map(str, error.absolute_path)) or 'top level'
        raise UserError(f'{path}: not a report ({place}: {error.message[:200]})')
    return content


def is_of_training(path):
    """Return whether the file is the report of a run that trained."""
    try:
        return any(name.startswith('train.') for name in read_report(path)['metrics'])
    except UserError:
        return False
