"""report.py: plots, checks and comparisons of reports."""

import json
import re
import sys

import cv2
import pytest

from helpers.commands import assert_user_error, call_here, succeed_here
from imagenet.reporting.report_file import Report


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


@pytest.fixture
def published_like(tmp_path):
    """The path of a report for whose options results are published."""
    path = tmp_path / 'run.json'
    command = ['train.py', '--dtype', 'float16', '--batch-size', '1536', '--num-epochs', '90']
    report = Report('resnetv15-50', 8, command)
    for top1 in (0.1, 0.77):
        report.add('train', {'total_ips': 13336.86, 'top1': top1})
        report.add('val', {'top1': top1})
    report.save(path)
    return path


def compare_cells(*options):
    """Return the lines of `report.py compare`, each as a list of its cells."""
    lines = succeed_here('./report.py', 'compare', *options).splitlines()
    return [re.split(r'\s{2,}', line.strip()) for line in lines]


def test_compare_with_published_runs(published_like):
    lines = compare_cells(published_like, '--published')
    assert lines[:3] == [
        [str(published_like), 'DGX A100 80GB', 'DGX-1 V100 16GB', 'DGX-2 V100 32GB'],
        ['mixed, 512 per GPU', 'mixed, 192 per GPU', 'mixed, 256 per GPU'],
        ['container 22.10', 'container 20.12', 'container 20.12'],
    ]
    assert ['devices', '8', '8', '8', '8'] in lines
    assert ['epochs', '2', '90', '90'] in lines
    assert ['seconds', '0', '4104.0', '10800.0'] in lines
    for kind in ('best', 'last'):
        assert [f'{kind} train.total_ips', '13336.9', '26673.7 (2.00x)', '10723.0 (0.80x)', '11368.0 (0.85x)'] in lines
        assert [f'{kind} val.top1', '0.77', '0.77185', '0.7715'] in lines
        assert [f'{kind} train.top1', '0.77'] in lines
    assert lines[-1][0].startswith('Published by NVIDIA: https://github.com/NVIDIA/')


def test_compare_with_one_machine(published_like):
    lines = compare_cells(published_like, published_like, '--published', 'dgx-1')
    assert lines[0] == [str(published_like), str(published_like), 'DGX-1 V100 16GB']
    assert compare_cells('--published', 'dgx-1', published_like, published_like) == lines


def test_inference_is_compared_with_the_same_batch_size(tmp_path):
    report = Report('resnetv15-50', 1, ['train.py', '--mode', 'val', '--batch-size', '64'])
    report.add('val', {'total_ips': 1000.0, 'latency_avg': 0.064, 'latency_99': 0.1, 'latency_100': 0.2})
    report.save(tmp_path / 'run.json')
    lines = compare_cells(tmp_path / 'run.json', '--published', 't4')
    assert ['best val.total_ips', '1000.0', '1561.0 (1.56x)'] in lines
    assert ['best val.latency_99', '0.1', '0.04385'] in lines
    assert ['best val.latency_100', '0.2'] in lines


def test_nothing_published_to_compare_with(saved, published_like):
    bad = ((saved, ()), (published_like, ('H100',)))
    for path, machine in bad:
        result = call_here('./report.py', 'compare', path, '--published', *machine)
        assert_user_error(result, '--published', 'nothing is published for')
    assert_user_error(call_here('./report.py', 'compare', '--published', saved), 'required: reports')


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
