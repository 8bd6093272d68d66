"""`--mode val --load 'PATTERN'`: a table of many checkpoints, which may be of different networks."""

import csv
import json
import shutil
import signal

import pytest

from helpers.commands import assert_user_error, call, call_here, succeed, succeed_here
from helpers.patience import wait_until
from imagenet.reporting.report_file import read_report

# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('engines')
OPTIONS = ('-b', '16', '--data-val-resize', '48')


@pytest.fixture(scope='module')
def runs(trained, small_data, tmp_path_factory):
    """The checkpoints of three runs, one of them of another network and image size, and two that do not load."""
    folder = tmp_path_factory.mktemp('runs')
    for name, options in {
        'small': ('--image-shape', '3,32,32', '--num-layers', '10'),
        'wide': ('--image-shape', '3,48,40', '--num-layers', '18', '--arch', 'resnetv1'),
    }.items():
        command = ('./runner', *OPTIONS, *options, '--data-root', small_data, '--workspace', folder / name)
        succeed(*command, '-e', '1', '--warmup-epochs', '0', '--seed', '1', '-l', '0.1')
    (folder / 'best').mkdir()
    shutil.copy(trained / 'model_best.params', folder / 'best')
    (folder / 'damaged').mkdir()
    content = (trained / 'model_best.params').read_bytes()
    (folder / 'damaged' / 'model_best.params').write_bytes(content[: len(content) // 2])
    (folder / 'empty').mkdir()
    (folder / 'empty' / 'model_best.params').touch()
    return folder


@pytest.fixture
def val(runs, small_data, tmp_path):
    """The command that compares them."""
    options = ('--load', runs / '*' / 'model_best.params', '--data-root', small_data, '--workspace', tmp_path / 'run')
    return './runner', *OPTIONS, '--mode', 'val', *options


def read_rows(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def validated_alone(path, small_data, workspace):
    succeed_here(
        './runner', *OPTIONS, '--mode', 'val', '--load', path, '--data-root', small_data, '--workspace', workspace
    )
    return read_report(workspace / 'report.json')['metrics']


@pytest.mark.parametrize('options', [(), ('-n', '2', '-b', '8'), ('--engine', 'openvino')])
def test_table(val, runs, small_data, tmp_path, options):
    run = succeed if '-n' in options else succeed_here
    output = run(*val, *options, '-o', tmp_path / 'table.csv')
    rows = read_rows(tmp_path / 'table.csv')
    assert len(rows) == 5
    names = [row['network'].split('/')[-2] for row in rows]
    assert set(names[:3]) == {'small', 'wide', 'best'}
    assert names[3:] == ['damaged', 'empty']
    assert all(row['error'] and not row['top1'] for row in rows[3:])
    tops = [float(row['top1']) for row in rows[:3]]
    assert tops == sorted(tops, reverse=True)
    assert {row['image_size'] for row in rows[:3]} == {'32x32', '48x40'}
    for row in rows[:3]:
        alone = validated_alone(row['network'], small_data, tmp_path / 'alone')
        assert float(row['top1']) == alone['val.top1'][-1]
        assert float(row['loss']) == pytest.approx(alone['val.loss'][-1], rel=1e-3)
    # The log ends with the same table.
    shown = [line for line in output.splitlines() if '|' in line]
    assert [cell.strip() for cell in shown[-1].split('|')][1] == rows[-1]['network']


def test_lines_for_programs(val, runs, tmp_path):
    succeed_here(*val, '--dllogger-log', 'lines.log')
    lines = [json.loads(line[5:]) for line in (tmp_path / 'run' / 'lines.log').read_text().splitlines()]
    networks = [line['data']['network'] for line in lines if 'network' in line.get('data', {})]
    assert networks == sorted(map(str, runs.glob('*/model_best.params')))


def test_stopped_run_leaves_a_table(val, start, tmp_path):
    table = tmp_path / 'table.md'
    process = start(*val, '-o', table)
    wait_until(table.exists)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert table.read_text().count('\n') >= 3


def test_errors(val, runs, tmp_path):
    for options, *message in (
        (('--load', runs / '*.params'), 'matches no file'),
        (('--load', runs / '*' / 'log.log'), 'none of 2 networks can be validated; the first:'),
        (('--load', runs / '[de]*' / 'model_best.params'), 'none of 2 networks can be validated'),
        (('-o', tmp_path / 'table.json'), '--output', '.csv or .md'),
        (('--analyze', tmp_path / 'analysis'), '--analyze: works with one network'),
        (('--mode', 'pred', '--data-pred', 'cat.jpg'), '--load', 'cannot read'),
    ):
        assert_user_error(call_here(*val, *options), *message)
    assert_user_error(call(*val, '-n', '2', '-b', '8', '--load', runs / '*.params'), 'matches no file')


def test_name_with_wildcards_is_a_file(trained, small_data, tmp_path):
    path = tmp_path / 'best[1].params'
    shutil.copy(trained / 'model_best.params', path)
    assert len(validated_alone(path, small_data, tmp_path / 'run')['val.top1']) == 1
