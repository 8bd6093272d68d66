"""`--real-labels`: the accuracy with ImageNet's reassessed labels follows from the result of each image."""

import csv
import json
import random
from pathlib import Path

import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed, succeed_here
from imagenet.reporting.report_file import read_report


@pytest.fixture(scope='module')
def renamed_data(small_data, tmp_path_factory):
    """The small data set, whose validation images are named as ImageNet's, in another order."""
    folder = tmp_path_factory.mktemp('renamed')
    for path in small_data.iterdir():
        if path.is_file() and path.name != 'val.lst':
            (folder / path.name).symlink_to(path)
    lines = [line.split('\t') for line in (small_data / 'val.lst').read_text().splitlines()]
    numbers = random.Random(0).sample(range(len(lines)), len(lines))
    renamed = [
        f'{key}\t{label}\t{name.split("/")[0]}/ILSVRC2012_val_{number + 1:08d}.JPEG\n'
        for (key, label, name), number in zip(lines, numbers)
    ]
    (folder / 'val.lst').write_text(''.join(renamed))
    return folder


@pytest.fixture
def labels(tmp_path):
    """A file of labels: none for each third image, one or two for the others."""
    drawn = random.Random(1)
    by_number = [drawn.sample(range(10), number % 3) for number in range(70)]
    (tmp_path / 'real.json').write_text(json.dumps(by_number))
    return tmp_path / 'real.json'


@pytest.fixture
def val(trained, renamed_data, tmp_path):
    options = ('--load', trained / 'model_best.params', '--data-root', renamed_data, '--workspace', tmp_path / 'run')
    return './runner', *SMALL, '--mode', 'val', *options


def expected(rows, labels):
    by_number = json.loads(labels.read_text())
    right = [(by_number[int(Path(row['file']).stem[-8:]) - 1], int(row['class'])) for row in rows]
    counted = [said in classes for classes, said in right if classes]
    return sum(counted) / len(counted), len(counted)


@pytest.mark.parametrize('options', [(), ('-n', '2', '-b', '8'), ('--data-backend', 'mxnet', '-e', '2')])
def test_accuracy(val, labels, tmp_path, options):
    run = succeed if '-n' in options else succeed_here
    output = run(*val, '--real-labels', labels, '-o', tmp_path / 'results.csv', *options)
    with (tmp_path / 'results.csv').open(newline='') as file:
        top1, images = expected(list(csv.DictReader(file)), labels)
    metrics = read_report(tmp_path / 'run' / 'report.json')['metrics']
    assert images == 46
    assert metrics['val.real_top1'] == [top1] * len(metrics['val.top1'])
    assert f'top-1 {top1:.4f} of the 46 images that have a right class' in output


def test_errors(val, labels, small_data, tmp_path):
    for options, message in (
        (('--real-labels', tmp_path / 'missing.json'), 'cannot read this file'),
        (('--real-labels', labels, '--data-root', small_data), "not named as ImageNet's"),
        (('--real-labels', labels, '--data-backend', 'synthetic'), 'needs val.lst'),
        (('--real-labels', labels, '--mode', 'train_val'), 'works only with --mode val'),
    ):
        assert_user_error(call_here(*val, *options), '--real-labels', message)
