"""dllogger.py: log lines for programs."""

import json
from datetime import datetime

from imagenet.reporting.dllogger import DLLoggerFile


def test_dllogger_lines(tmp_path):
    path = tmp_path / 'dllogger_log.log'
    lines = DLLoggerFile(path)
    lines.metadata('train.ips', {'unit': 'images/s'})
    lines.log('PARAMETER', {'lr': 0.1})
    lines.log((2, 19), {'train.loss': 1.5})
    lines.log((2,), {'val.accuracy': 0.5})
    lines.log((), {'val.accuracy': 0.5})
    # The log is still open: each line is written immediately.
    records = []
    for line in path.read_text().splitlines():
        tag, text = line.split(' ', 1)
        assert tag == 'DLLL'
        records.append(json.loads(text))
    for record in records:
        assert list(record)[:4] == ['timestamp', 'datetime', 'elapsedtime', 'type']
        assert float(record['timestamp']) > 1.7e9
        assert datetime.fromisoformat(record['datetime'])
        assert float(record['elapsedtime']) >= 0
    assert records[0]['type'] == 'METADATA'
    assert records[0]['metric'] == 'train.ips'
    assert records[0]['metadata'] == {'unit': 'images/s'}
    assert [record['step'] for record in records[1:]] == ['PARAMETER', [2, 19], [2], []]
    assert {record['type'] for record in records[1:]} == {'LOG'}
    assert records[2]['data'] == {'train.loss': 1.5}
