"""`--tta flip`: an image and its mirror image have the same probabilities, with every engine."""

import csv

import cv2
import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed, succeed_here
from imagenet.inference.engines import ENGINES
from imagenet.reporting.report_file import read_report

# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('engines')


@pytest.fixture
def photographs(small_tree, tmp_path):
    """A folder with two images and their mirror images."""
    folder = tmp_path / 'photographs'
    folder.mkdir()
    for path in sorted((small_tree / 'val').rglob('*.jpg'))[:2]:
        image = cv2.imread(str(path))
        cv2.imwrite(str(folder / f'{path.stem}_0.png'), image)
        cv2.imwrite(str(folder / f'{path.stem}_1.png'), image[:, ::-1])
    return folder


def probabilities(path):
    with path.open(newline='') as file:
        return [float(row['probability_1']) for row in csv.DictReader(file)]


@pytest.mark.parametrize('engine', ['mxnet', *ENGINES])
def test_prediction(trained, photographs, tmp_path, engine):
    found = {}
    for tta in ('none', 'flip'):
        command = ('./runner', *SMALL, '--load', trained / 'model_best.params', '--mode', 'pred', '--engine', engine)
        output = tmp_path / f'{tta}.csv'
        succeed_here(*command, '--data-pred', photographs, '--tta', tta, '-o', output)
        found[tta] = probabilities(output)
    first, first_flipped, second, second_flipped = found['flip']
    assert (first, second) == pytest.approx((first_flipped, second_flipped), abs=1e-4)
    assert found['none'] != pytest.approx(found['flip'], abs=1e-3)


def test_validation(trained, small_data, tmp_path):
    """Several processes, another engine and another layout find the same."""
    found = []
    for options in ((), ('-n', '2', '-b', '8'), ('--engine', 'openvino'), ('--input-layout', 'NHWC')):
        command = ('./runner', *SMALL, '--load', trained / 'model_best.params', '--mode', 'val', '--tta', 'flip')
        run = succeed if '-n' in options else succeed_here
        run(*command, '--data-root', small_data, '--workspace', tmp_path, *options)
        metrics = read_report(tmp_path / 'report.json')['metrics']
        found.append((metrics['val.top1'], metrics['val.loss']))
    assert [top1 for top1, _ in found] == [found[0][0]] * len(found)
    assert [loss for _, (loss,) in found] == pytest.approx([found[0][1][0]] * len(found), rel=1e-4)


def test_only_inference(trained, small_data):
    for mode in ('train_val', 'calibrate'):
        options = ('--mode', mode, '--data-root', small_data, '--load', trained / 'model_best.params')
        assert_user_error(call_here('./runner', *SMALL, *options, '--tta', 'flip'), '--tta flip')
