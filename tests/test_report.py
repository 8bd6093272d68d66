"""report.py and files.py: written whole, read back, drawn."""

import json
import sys

import cv2
import pytest
from conftest import assert_user_error, call, succeed

from errors import UserError
from files import write_atomically
from report import Report, read_report


@pytest.fixture
def saved(tmp_path):
    report = Report('resnetv15-18', 2, ['train.py', '--seed', '1'])
    for epoch in range(3):
        report.add('train', {'loss': 2.0 - epoch, 'top1': 0.3 * epoch, 'total_ips': 100.0})
        report.add('val', {'top1': 0.25 * epoch})
    report.total_duration = 12.5
    path = tmp_path / 'report.json'
    report.save(path)
    return path


def test_content(saved):
    assert read_report(saved) == {
        'model': 'resnetv15-18',
        'ngpus': 2,
        'total_duration': 12.5,
        'cmd': ['train.py', '--seed', '1'],
        'metrics': {
            'train.loss': [2.0, 1.0, 0.0],
            'train.top1': [0.0, 0.3, 0.6],
            'train.total_ips': [100.0, 100.0, 100.0],
            'val.top1': [0.0, 0.25, 0.5],
        },
    }


def test_failed_write_leaves_the_old_file_and_nothing_else(saved):
    before = saved.read_text()

    def fail(temporary):
        temporary.write_text('half')
        raise OSError(28, 'No space left on device')

    with pytest.raises(UserError, match=r'report\.json: cannot write this file \(No space left on device\)'):
        write_atomically(saved, fail)
    assert saved.read_text() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_plot(saved, tmp_path):
    succeed(sys.executable, 'report.py', 'plot', saved, '-o', tmp_path / 'curves.png')
    picture = cv2.imread(str(tmp_path / 'curves.png'))
    assert picture.shape == (450, 1500, 3)
    assert picture.std() > 10


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'not JSON'),
        (json.dumps([1]), 'not a report'),
        (json.dumps({'metrics': {'a': [1, None]}}), 'not a list of numbers'),
    ],
)
def test_not_a_report(tmp_path, content, message):
    path = tmp_path / 'report.json'
    path.write_text(content)
    assert_user_error(call(sys.executable, 'report.py', 'plot', path, '-o', tmp_path / 'a.png'), path, message)


def test_missing_report_and_unwritable_picture(saved, tmp_path):
    assert_user_error(call(sys.executable, 'report.py', 'plot', tmp_path / 'none.json', '-o', 'a.png'), 'none.json')
    picture = tmp_path / 'none' / 'a.png'
    assert_user_error(call(sys.executable, 'report.py', 'plot', saved, '-o', picture), picture)
