"""analysis.py: tables of a few examples by hand, and of many compared with a full confusion matrix."""

import numpy as np
import pytest

from imagenet.inference.analysis import (
    Confusion,
    count_by_class,
    count_confusions,
    measure_reliability,
    most_confident_mistakes,
    most_confused,
)
from imagenet.inference.example_results import ExampleResults


def make_results(*rows):
    """Return the results of examples, each a tuple (label, said, probability, rank)."""
    labels, said, probabilities, ranks = map(np.array, zip(*rows))
    return ExampleResults(np.arange(len(rows)), labels, said, probabilities.astype(np.float64), ranks)


FEW = make_results((0, 0, 0.9, 1), (0, 1, 0.6, 2), (0, 1, 0.8, 7), (1, 1, 0.5, 1), (2, 0, 0.8, 2))


def test_classes():
    table = count_by_class(FEW, 4)
    assert table.images.tolist() == [3, 1, 1, 0]
    assert table.correct.tolist() == [1, 1, 0, 0]
    assert table.correct_top5.tolist() == [2, 1, 1, 0]
    assert table.said.tolist() == [2, 3, 0, 0]
    assert table.top1[:3].tolist() == [1 / 3, 1, 0]
    assert table.precision[:2].tolist() == [1 / 2, 1 / 3]
    assert np.isnan([table.top1[3], table.top5[3], table.precision[2]]).all()


def test_confusions():
    found = count_confusions(FEW)
    assert found == [(0, 0, 1), (0, 1, 2), (1, 1, 1), (2, 0, 1)]
    assert most_confused(found) == [Confusion(0, 1, 2), Confusion(2, 0, 1)]


def test_many_confusions():
    random = np.random.RandomState(1)
    labels, said = random.randint(0, 30, (2, 5000))
    results = ExampleResults(np.arange(5000), labels, said, np.full(5000, 0.5), np.where(labels == said, 1, 2))
    matrix = np.zeros((30, 30), dtype=int)
    np.add.at(matrix, (labels, said), 1)
    found = np.zeros_like(matrix)
    for label, answer, count in count_confusions(results):
        found[label, answer] = count
    assert (found == matrix).all()
    table = count_by_class(results, 30)
    assert table.correct.tolist() == np.diag(matrix).tolist()
    assert table.images.tolist() == matrix.sum(axis=1).tolist()
    assert table.said.tolist() == matrix.sum(axis=0).tolist()


def test_mistakes():
    """Of equal probabilities, the earlier record comes first."""
    assert most_confident_mistakes(FEW, 10).tolist() == [2, 4, 1]
    assert most_confident_mistakes(FEW, 1).tolist() == [2]


def test_calibration_by_hand():
    results = make_results((0, 0, 0.1, 1), (0, 1, 0.2, 2), (0, 0, 0.21, 1), (0, 0, 1, 1), (0, 1, 0.9, 2))
    found = measure_reliability(results, num_bins=5)
    assert found.counts.tolist() == [2, 1, 0, 0, 2]
    assert found.accuracies[[0, 1, 4]].tolist() == [0.5, 1, 0.5]
    assert found.probabilities[[0, 1, 4]] == pytest.approx([0.15, 0.21, 0.95])
    assert np.isnan(found.accuracies[2])
    assert found.expected_calibration_error == pytest.approx((2 * 0.35 + 1 * 0.79 + 2 * 0.45) / 5)


@pytest.mark.parametrize('excess', [0, 0.2])
def test_calibration_of_known_networks(excess):
    """One is right as often as its probabilities are, the other one is too sure of itself."""
    random = np.random.RandomState(2)
    probabilities = random.uniform(0.3, 1, 100_000)
    is_right = random.uniform(size=100_000) < probabilities - excess
    said = np.where(is_right, 0, 1)
    results = ExampleResults(np.arange(100_000), np.zeros_like(said), said, probabilities, 1 + said)
    assert measure_reliability(results).expected_calibration_error == pytest.approx(excess, abs=0.01)
