"""The results of each record and the analysis of `--mode val`, with every engine and with several processes."""

import csv
import json
import math
from collections import Counter

import cv2
import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed, succeed_here
from helpers.datasets import contents
from imagenet.datasets.records import RecordFile
from imagenet.inference.engines import ENGINES
from imagenet.reporting.report_file import read_report

# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('engines')
PICTURES = ('confusion.png', 'mistakes.png', 'calibration.png', 'training_images.png')
FILES = ('summary.json', 'per_class.csv', 'confusion.csv', *PICTURES)


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


@pytest.mark.parametrize('options', [(), *(('--engine', engine) for engine in ENGINES)])
def test_analysis(val, small_data, tmp_path, options):
    folder = tmp_path / 'new' / 'analysis'
    output = succeed_here(*val, *options, '--analyze', folder, '-o', folder / 'results.csv')
    measured = metrics_of(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, 'results.csv'])
    summary = json.loads((folder / 'summary.json').read_text())
    assert f'expected calibration error {summary["expected_calibration_error"]:.4f}' in output
    assert (summary['top1'], summary['top5']) == (measured['val.top1'], measured['val.top5'])
    cells = [tuple(map(int, row.values())) for row in read_rows(folder / 'confusion.csv')]
    rows = read_rows(folder / 'results.csv')
    assert Counter({(label, said): count for label, said, count in cells}) == Counter(
        (int(row['label']), int(row['class'])) for row in rows
    )
    assert sum(count for label, said, count in cells if label == said) / 70 == measured['val.top1']
    classes = read_rows(folder / 'per_class.csv')
    assert [row['name'] for row in classes] == (small_data / 'classes.txt').read_text().splitlines()
    assert {row['images'] for row in classes} == {'7'}
    assert {row['training_images'] for row in classes} == {'24'}
    assert sum(int(row['correct']) for row in classes) / 70 == measured['val.top1']
    assert sum(int(row['correct_top5']) for row in classes) / 70 == measured['val.top5']
    # By hand, as Guo et al. define it.
    gaps = Counter()
    for row in rows:
        share = float(row['probability'])
        gaps[math.ceil(share * 15)] += (row['label'] == row['class']) - share
    assert summary['expected_calibration_error'] == pytest.approx(sum(map(abs, gaps.values())) / 70, abs=1e-6)
    for name in PICTURES:
        assert cv2.imread(str(folder / name)).std() > 5
    report, page = tmp_path / 'run' / 'report.json', tmp_path / 'run.html'
    succeed_here('./report.py', 'html', report, '-o', page, '--analysis', folder)
    assert page.read_text().count('src="data:image/png;base64,') == 4


def test_number_of_processes_makes_no_difference(val, tmp_path):
    """The last shard has fewer records than the others; with --dali-separ-val, each process has all of them."""
    found = []
    for options in (('-n', '1'), ('-n', '2'), ('-n', '3'), ('-n', '2', '--dali-separ-val')):
        folder = tmp_path / f'analysis{len(found)}'
        succeed(*val, '-b', '8', *options, '--analyze', folder, '-o', folder / 'results.csv')
        found.append(contents(folder))
    assert sorted(found[0]) == sorted([*FILES, 'results.csv'])
    for other in found[1:]:
        assert [name for name in other if other[name] != found[0][name]] == []


def test_earlier_analysis(val, tmp_path):
    """Its files are replaced or removed; others stay."""
    for name in ('mistakes.png', 'summary.json', 'training_images.png', 'notes.txt'):
        (tmp_path / name).write_text('old')
    options = ('--data-backend', 'synthetic', '--num-classes', '10', '--benchmark-iters', '2')
    output = succeed_here(*val, *options, '--analyze', tmp_path)
    assert 'no mistakes.png: synthetic data has no images' in output
    assert 'no training_images.png' in output
    written = set(FILES) - {'mistakes.png', 'training_images.png'}
    assert {path.name for path in tmp_path.iterdir()} == written | {'notes.txt', 'run'}
    assert json.loads((tmp_path / 'summary.json').read_text())['images'] == 32


def test_folder_that_cannot_be_written(val, tmp_path):
    (tmp_path / 'file').write_text('')
    assert_user_error(call_here(*val, '--analyze', tmp_path / 'file'), f'--analyze {tmp_path}/file: cannot write there')
    (tmp_path / 'report').mkdir()
    (tmp_path / 'report' / 'confusion.png').mkdir()
    assert_user_error(call_here(*val, '--analyze', tmp_path / 'report'), 'its confusion.png is a folder')


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
    assert_user_error(call_here(*command, '--analyze', 'analysis'), '--analyze needs a network: --load model_best')


def test_analysis_of_another_mode(small_data, tmp_path):
    command = ('./runner', *SMALL, '--data-root', small_data, '--workspace', tmp_path)
    assert_user_error(call_here(*command, '--analyze', tmp_path / 'new'), '--analyze: works only with --mode val')
    assert not (tmp_path / 'new').exists()
