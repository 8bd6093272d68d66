"""report_file.py and files.py: files are written completely or not at all, and reports are read back."""

import json

import jsonschema
import pytest

from helpers.commands import PROJECT
from imagenet.common.errors import UserError
from imagenet.common.files import write_atomically
from imagenet.reporting.report_file import Report, describe_best, read_report


def test_content(saved):
    assert read_report(saved) == {
        'version': 1,
        'model': 'resnetv15-18',
        'ngpus': 2,
        'total_duration': 12.5,
        'cmd': ['train.py', '--seed', '1'],
        'best': {'phase': 'val', 'epoch': 3, 'top1': 0.5},
        'metrics': {
            'train.loss': [2.0, 1.0, 0.0],
            'train.top1': [0.0, 0.3, 0.6],
            'train.total_ips': [100.0, 100.0, 100.0],
            'val.top1': [0.0, 0.25, 0.5],
        },
    }


def test_options_and_environment(tmp_path):
    options = {'lr': 0.1, 'load': None, 'amp': False, 'lr_points': [[0, 0.1], [2, 0.5]], 'mode': 'val'}
    report = Report('resnetv15-18', 1, [], options, {'machine': 'a laptop'})
    report.save(tmp_path / 'report.json')
    found = read_report(tmp_path / 'report.json')
    assert found['options'] == options
    assert found['environment'] == {'machine': 'a laptop'}
    report.options = {'lr': {'a': 1}}
    report.save(tmp_path / 'report.json')
    with pytest.raises(UserError, match=r'not a report \(options.lr: '):
        read_report(tmp_path / 'report.json')


def test_failed_write_leaves_the_old_file_and_nothing_else(saved):
    before = saved.read_text()

    def fail(temporary):
        temporary.write_text('half')
        raise OSError(28, 'No space left on device')

    with pytest.raises(UserError, match=r'report\.json: cannot write this file \(No space left on device\)'):
        write_atomically(saved, fail)
    assert saved.read_text() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_every_report_is_valid_under_the_schema(trained):
    schema = json.loads((PROJECT / 'imagenet' / 'reporting' / 'report_schema.json').read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(json.loads((trained / 'report.json').read_text()), schema)


def report_with(**metrics):
    report = Report('resnetv15-18', 1, [])
    for phase, values in metrics.items():
        for top1 in values:
            report.add(phase, {'top1': top1})
    return report


def test_best_of_the_parameters_and_the_averaged_ones():
    best = report_with(val=[0.5, 0.7, 0.6], ema=[0.1, 0.6, 0.8]).best
    assert best == {'phase': 'ema', 'epoch': 3, 'top1': 0.8}
    assert describe_best(best) == 'best top-1 0.8000 in epoch 3, of the averaged parameters'
    best = report_with(val=[0.5, 0.8, 0.8], ema=[0.1, 0.6, 0.8]).best
    assert best == {'phase': 'val', 'epoch': 2, 'top1': 0.8}
    assert describe_best(best) == 'best top-1 0.8000 in epoch 2, of the parameters'
    assert report_with(train=[0.5]).best is None
