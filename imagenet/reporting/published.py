"""published.json: what NVIDIA measured with the original of this package."""

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().with_name('published.json')


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
