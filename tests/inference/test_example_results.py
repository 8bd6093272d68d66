"""example_results.py: the row of an example, compared with NumPy and with the sums of the report."""

import csv

import numpy as np
import pytest

from imagenet.inference.example_results import ExampleRows, write_results
from imagenet.runtime.compat import mx
from imagenet.training.metrics import make_scorer


def collect(batches, num_classes, first_example=0, on_host=True):
    rows = ExampleRows(num_classes, on_host)
    for logits, labels in batches:
        rows.push(mx.nd.array(logits), mx.nd.array(labels))
        rows.fetch()
    return rows.gather(first_example)


@pytest.mark.parametrize('on_host', [False, True])
@pytest.mark.parametrize('num_classes', [3, 10, 1000])
def test_rows(num_classes, on_host):
    random = np.random.RandomState(0)
    logits = random.standard_normal((50, num_classes)).astype(np.float32) * 3
    labels = random.randint(0, num_classes, 50)
    batches = [(logits[:32], labels[:32]), (logits[32:], labels[32:])]
    found = collect(batches, num_classes, first_example=7, on_host=on_host)
    exponentials = np.exp(logits.astype(np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    order = np.argsort(-logits, axis=1)
    assert found.numbers.tolist() == list(range(7, 57))
    assert found.labels.tolist() == labels.tolist()
    assert found.said.tolist() == order[:, 0].tolist()
    assert found.ranks.tolist() == (1 + np.argmax(order == labels[:, None], axis=1)).tolist()
    assert np.allclose(found.probabilities, probabilities.max(axis=1), atol=0.51e-4)


@pytest.mark.parametrize('on_host', [False, True])
def test_equal_logits_count_as_in_the_report(on_host):
    """On a GPU, which of several equal logits comes first is topk's choice; large ones neither overflow nor hide it."""
    logits = np.repeat([[200, 200, 0, 200, 0, 0, 0, 0]], 8, axis=0)
    labels = np.arange(8)
    found = collect([(logits, labels)], 8, on_host=on_host)
    _, top1, top5, _ = make_scorer(8, on_host)(mx.nd.array(logits), mx.nd.array(labels))()
    assert (found.ranks == 1).sum() == found.is_right.sum() == top1 == 1
    assert (found.ranks <= 5).sum() == top5 == 5
    assert found.probabilities.tolist() == [0.3333] * 8


def test_no_examples():
    assert len(collect([], 10)) == 0


def test_table(tmp_path):
    results = collect([([[0, 9, 0], [0, 9, 0]], [1, 2])], 3, first_example=1)
    write_results(tmp_path / 'results.csv', results, ['cat', 'dog, "Canis"', 'owl'], ['0.jpg', 'a,1.jpg', '2.jpg'])
    with (tmp_path / 'results.csv').open(newline='', encoding='utf-8') as file:
        first, second = csv.DictReader(file)
    assert list(first.values()) == ['1', 'a,1.jpg', '1', 'dog, "Canis"', '1', 'dog, "Canis"', '0.9998', '1']
    assert list(second.values())[:6] == ['2', '2.jpg', '2', 'owl', '1', 'dog, "Canis"']
    assert second['rank'] in ('2', '3')
