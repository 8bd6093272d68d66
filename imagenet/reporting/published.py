"""published.json: what NVIDIA measured with the original of this package, to compare runs with."""

import json
from dataclasses import dataclass
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.text import shortened

FILE = Path(__file__).resolve().with_name('published.json')
# The precisions that a value of --dtype means on one GPU or another.
PRECISIONS = {'float16': ('mixed',), 'float32': ('TF32', 'FP32')}


@dataclass(frozen=True)
class PublishedRun:
    """One row of a published table, in the units of report.json.

    Attributes:
        source, container: the address of the table; the version of NVIDIA's MXNet container that was measured.
        model: name of the network.
        machine: the computer and its GPUs, such as 'DGX A100 80GB'.
        mode: 'train' or 'val' if the speed was measured, 'train_val' if the network was trained to the end.
        precision: 'mixed', 'TF32' or 'FP32'.
        ngpus, batch_size: number of GPUs; images per GPU and step.
        metrics: a value by name. Top-1 on 8 GPUs is the mean of eight runs.
        epochs, mixup, total_duration: of 'train_val'. The duration in seconds is None if it was not published.
    """

    source: str
    container: str
    model: str
    machine: str
    mode: str
    precision: str
    ngpus: int
    batch_size: int
    metrics: dict
    epochs: int = None
    mixup: float = 0
    total_duration: float = None


def read_published():
    """Return all published runs.

    The schema of the file is checked by a test instead, so that the standard library is enough here.
    """
    found = []
    for table in json.loads(FILE.read_text(encoding='utf-8'))['tables']:
        runs = table.pop('runs')
        found += [PublishedRun(**table, **run) for run in runs]
    return found


def comparable_runs(report, machine=''):
    """Return the published runs that have a report's network, mode, number of GPUs and precision.

    For inference, they also have its batch size. A run that trains and validates is compared with measurements of the
    speed of training, and with the accuracy after as many epochs. If its command leaves out an option, any value fits.

    Args:
        machine: a part of the machine's name, such as 'A100' or 'dgx-1'.

    Raises:
        UserError: there are none.
    """
    metrics, ngpus = report['metrics'], report['ngpus']
    mode = '_'.join(phase for phase in ('train', 'val') if any(name.startswith(phase) for name in metrics)) or 'none'
    dtype = 'float16' if '--amp' in report['cmd'] else _option(report, '--dtype')
    batch_size = _option(report, '--batch-size')
    num_epochs = _option(report, '--num-epochs') or max(map(len, metrics.values()), default=0)
    # An attribute, the value that the report has, and whether a published run fits.
    criteria = (
        ('machine', machine, lambda run: machine.lower() in run.machine.lower()),
        ('model', report['model'], lambda run: run.model == report['model']),
        ('mode', mode, lambda run: run.mode == mode or (run.mode, mode) == ('train', 'train_val')),
        ('ngpus', ngpus, lambda run: run.ngpus == ngpus),
        ('precision', dtype, lambda run: dtype is None or run.precision in PRECISIONS.get(dtype, ())),
        ('batch_size', batch_size, lambda run: run.mode != 'val' or batch_size in (None, str(run.batch_size * ngpus))),
        ('epochs', num_epochs, lambda run: run.mode != 'train_val' or str(run.epochs) == str(num_epochs)),
    )
    runs = read_published()
    for attribute, value, fits in criteria:
        fitting = [run for run in runs if fits(run)]
        if not fitting:
            known = ', '.join(map(str, sorted({getattr(run, attribute) for run in runs})))
            option = f'--published {machine}'.strip()
            raise UserError(f'{option}: nothing is published for {attribute} {shortened(str(value))}, only for {known}')
        runs = fitting
    return runs


def _option(report, name):
    """Return the value of an option in the report's command, or None. The last one counts."""
    value = None
    for word, following in zip(report['cmd'], [*report['cmd'][1:], None]):
        if word == name:
            value = following
        elif word.startswith(f'{name}='):
            value = word[len(name) + 1 :]
    return value
