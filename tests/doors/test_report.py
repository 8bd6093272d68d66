"""report.py: plots, checks and comparisons of reports."""

import json
import sys

import cv2
import pytest

from helpers.commands import assert_user_error, call_here, succeed_here


def test_plot(saved, tmp_path):
    succeed_here(sys.executable, 'report.py', 'plot', saved, '-o', tmp_path / 'curves.png')
    picture = cv2.imread(str(tmp_path / 'curves.png'))
    assert picture.shape == (800, 1200, 3)
    assert picture.std() > 10
    several = tmp_path / 'several.png'
    succeed_here(sys.executable, 'report.py', 'plot', saved, saved, '-o', several)
    assert (cv2.imread(str(several)) != picture).any()


@pytest.mark.parametrize(
    ('expressions', 'code'),
    [
        (['val.top1>=0.5'], 0),
        (['val.top1 > 0.5'], 1),
        (['last(train.loss)==0', 'first(train.loss)>=2', 'mean(train.loss)<=1', 'train.loss<1e-3'], 0),
        (['max(train.loss)<2'], 1),
        (['train.total_ips>=100', 'total_duration<13', 'ngpus==2'], 0),
        (['val.top1>=0.5', 'train.total_ips>=101'], 1),
    ],
)
def test_check(saved, expressions, code):
    result = call_here('./report.py', 'check', saved, *expressions)
    assert result.returncode == code
    assert [line[7:].split('   ')[0] for line in result.stdout.splitlines()] == expressions
    assert ('FAILED' in result.stdout) == bool(code)


@pytest.mark.parametrize(
    ('expression', 'expected'),
    [
        ('val.top1', 'is not a check'),
        ('val.top1=>0.5', 'is not a check'),
        ('val.top1>=high', 'is not a check'),
        ('val.top1>=1.2.3', 'is not a check'),
        ('worst(val.top1)>=0.5', 'is not a check'),
        ('val.top9>=0.5', 'the report has no val.top9; it has train.loss, '),
    ],
)
def test_bad_checks(saved, expression, expected):
    assert_user_error(call_here('./report.py', 'check', saved, expression), f'"{expression}"', expected)


def test_compare(saved, tmp_path):
    content = json.loads(saved.read_text())
    content['metrics']['train.total_ips'] = [150.0, 120.0]
    content['metrics']['val.loss'] = [1.0, 2.0]
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(content))
    lines = succeed_here('./report.py', 'compare', saved, other).splitlines()
    rows = {line.split('  ')[0]: line.split() for line in lines}
    assert rows['best train.total_ips'][2:] == ['100', '150', '(1.50x)']
    assert rows['last train.total_ips'][2:] == ['100', '120', '(1.20x)']
    assert rows['best val.loss'][2:] == ['1']
    assert rows['best val.top1'][2:] == ['0.5', '0.5']


def make_content(**metrics):
    return json.dumps({'model': 'net', 'ngpus': 1, 'total_duration': 1, 'cmd': [], 'metrics': metrics})


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'not JSON'),
        (json.dumps([1]), 'not a report'),
        (json.dumps({'metrics': {}}), "'model' is a required property"),
        (json.dumps({'version': 2}), 'a report of version 2; this package reads 1'),
        (make_content(**{'train.loss': [1, None]}), "metrics.train.loss.1: None is not of type 'number'"),
        (make_content(**{'val.top1': [1.5]}), 'metrics.val.top1.0: 1.5 is greater than the maximum of 1'),
        (make_content(losses=[1]), "'losses' does not match any of the regexes"),
    ],
)
def test_not_a_report(tmp_path, content, message):
    path = tmp_path / 'report.json'
    path.write_text(content)
    assert_user_error(call_here(sys.executable, 'report.py', 'plot', path, '-o', tmp_path / 'a.png'), path, message)


def test_missing_report_and_unwritable_picture(saved, tmp_path):
    assert_user_error(
        call_here(sys.executable, 'report.py', 'plot', tmp_path / 'none.json', '-o', 'a.png'), 'none.json'
    )
    picture = tmp_path / 'none' / 'a.png'
    assert_user_error(call_here(sys.executable, 'report.py', 'plot', saved, '-o', picture), picture)
