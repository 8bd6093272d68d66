"""report.py as a user starts it."""

import sys

import pytest

from helpers.commands import succeed
from imagenet.reporting.report_file import Report


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


def test_show(saved):
    lines = succeed('./report.py', 'show', saved).splitlines()
    assert lines[0] == 'resnetv15-18 on 2 devices, 3 epochs in 12.5 s'
    assert lines[1] == 'train.py --seed 1'
    assert lines[3].split() == ['epoch', 'train.loss', 'train.top1', 'train.total_ips', 'val.top1']
    assert lines[-1].split() == ['3', '0', '0.6', '100', '0.5']


def test_showing_does_not_wait_for_mxnet(saved):
    code = f'import sys, report; sys.argv[1:] = ["show", {str(saved)!r}]; report.main(); print("mxnet" in sys.modules)'
    assert succeed(sys.executable, '-c', code).splitlines()[-1] == 'False'
