"""The results of each record and the analysis of `--mode val`, with every engine and with several processes."""

import csv

import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed, succeed_here
from imagenet.datasets.records import RecordFile
from imagenet.inference.engines import ENGINES
from imagenet.reporting.report_file import read_report

# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('engines')


@pytest.fixture
def val(trained, small_data, tmp_path):
    """The command of a validation."""
    options = ('--load', trained / 'model_best.params', '--data-root', small_data, '--workspace', tmp_path / 'run')
    return './runner', *SMALL, '--mode', 'val', *options


def read_rows(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def metrics_of(folder):
    return {name: values[-1] for name, values in read_report(folder / 'run' / 'report.json')['metrics'].items()}


@pytest.mark.parametrize('options', [(), ('--data-backend', 'mxnet'), *(('--engine', engine) for engine in ENGINES)])
def test_results_of_each_record(val, small_data, tmp_path, options):
    output = succeed_here(*val, *options, '-o', tmp_path / 'results.csv')
    assert f'wrote {tmp_path / "results.csv"}: 70 results' in output
    rows, measured = read_rows(tmp_path / 'results.csv'), metrics_of(tmp_path)
    assert [int(row['record']) for row in rows] == list(range(70))
    with RecordFile(small_data / 'val.rec', small_data / 'val.idx') as records:
        assert [int(row['label']) for row in rows] == [records.read(number).label for number in range(70)]
    # A file's folder is its class.
    assert all(row['file'].split('/')[0] == row['label_name'] for row in rows)
    assert sum(row['label'] == row['class'] for row in rows) / 70 == measured['val.top1']
    assert sum(int(row['rank']) <= 5 for row in rows) / 70 == measured['val.top5']
    assert all(0.1 < float(row['probability']) <= 1 for row in rows)


def test_number_of_processes_makes_no_difference(val, tmp_path):
    """The last shard has fewer records than the others; with --dali-separ-val, each process has all of them."""
    contents = []
    for options in (('-n', '1'), ('-n', '2'), ('-n', '3'), ('-n', '2', '--dali-separ-val')):
        succeed(*val, '-b', '8', *options, '-o', tmp_path / 'results.csv')
        contents.append((tmp_path / 'results.csv').read_bytes())
    assert len(set(contents)) == 1


def test_some_steps_of_synthetic_data(val, tmp_path):
    options = ('--data-backend', 'synthetic', '--num-classes', '10', '--benchmark-iters', '2')
    succeed_here(*val, *options, '-o', tmp_path / 'results.csv')
    rows = read_rows(tmp_path / 'results.csv')
    assert len(rows) == 32
    assert {row['file'] for row in rows} == {''}


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (('-o', 'results.txt'), '--output results.txt: must be the name of a .csv file for --mode val'),
        (('-o', '/nowhere/results.csv'), '--output /nowhere/results.csv: is a folder, or its folder is missing'),
        (('-o', 'results.csv', '--test-io', '--test-io-mode', 'val'), '--output: works only with --mode val, and with'),
    ],
)
def test_results_that_cannot_be_written(val, options, said):
    assert_user_error(call_here(*val, *options), said)


def test_results_need_a_network():
    command = ('./runner', *SMALL, '--mode', 'val', '--data-backend', 'synthetic', '--benchmark-iters', '2')
    assert_user_error(call_here(*command, '-o', 'results.csv'), '--output needs a network: --load model_best.params')
