"""dllogger.py and tensorboard.py: log lines for programs."""

import json
import struct
from datetime import datetime

from tensorboardX.proto.event_pb2 import Event

from imagenet.reporting.dllogger import DLLoggerFile
from imagenet.reporting.tensorboard import TensorBoardFile


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


def test_tensorboard_points_are_written_immediately(tmp_path):
    board = TensorBoardFile(tmp_path / 'new' / 'board')
    for step in range(100):
        board.log(step, {'train.loss': step / 2, 'train.lr': 0.1})
        # The file is still open.
        points = read_events(next((tmp_path / 'new' / 'board').iterdir()))[1:]
        assert len(points) == 2 * (step + 1)
    assert [(point.step, point.summary.value[0].tag, point.summary.value[0].simple_value) for point in points[::2]] == [
        (step, 'train.loss', step / 2) for step in range(100)
    ]


def read_events(path):
    """Return the events of a file of TensorFlow records: length, checksum, content, checksum."""
    content = path.read_bytes()
    events, position = [], 0
    while position < len(content):
        (length,) = struct.unpack_from('<Q', content, position)
        events.append(Event.FromString(content[position + 12 : position + 12 + length]))
        position += 16 + length
    return events
