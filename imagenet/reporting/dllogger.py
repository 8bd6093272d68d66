"""DLLogger's JSON lines."""

import json
import time
from datetime import datetime
from pathlib import Path

from imagenet.common.errors import UserError

METRIC_UNITS = {
    'train.loss': None,
    'train.top1': None,
    'train.top5': None,
    'train.ips': 'images/s',
    'train.lr': None,
    'train.comm_share': None,
    'val.loss': None,
    'val.accuracy': None,
    'val.top_k_accuracy_5': None,
    'ema.loss': None,
    'ema.accuracy': None,
    'ema.top_k_accuracy_5': None,
    'val.ips': 'images/s',
    'val.latency_avg': 's',
    'val.latency_50': 's',
    'val.latency_90': 's',
    'val.latency_95': 's',
    'val.latency_99': 's',
    'val.latency_100': 's',
}


class DLLoggerFile:
    """Writes the lines that NVIDIA's `dllogger` writes with its `JSONStreamBackend`.

    A step is 'PARAMETER' for the options, `(epoch, iteration)` in an epoch, `(epoch,)` for its summary and `()` for the
    run's. Each line is flushed, so the file of a killed process ends with a complete line.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path, mode='w'):
        self._path = Path(path)
        self._file = self._path.open(mode, encoding='utf-8', buffering=1)
        self._start = time.time()

    def log(self, step, data):
        self._write({'type': 'LOG', 'step': step, 'data': data})

    def metadata(self, metric, metadata):
        self._write({'type': 'METADATA', 'metric': metric, 'metadata': metadata})

    def _write(self, content):
        now = time.time()
        stamps = {
            'timestamp': f'{now:.6f}',
            'datetime': str(datetime.fromtimestamp(now)),
            'elapsedtime': f'{now - self._start:.6f}',
        }
        try:
            self._file.write(f'DLLL {json.dumps({**stamps, **content})}\n')
        except OSError as error:
            raise UserError(f'{self._path}: cannot write this log ({error.strerror})') from None
