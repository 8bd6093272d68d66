"""prediction_results.py: what is written in parts is what would be written at once."""

import csv
import io
import json
import os

import pytest

from imagenet.common.errors import UserError
from imagenet.inference.prediction_results import FORMATS, Origin, Tally, counted_results, saved_results

NUM_CLASSES = 2
ORIGIN = Origin({'--engine': 'mxnet', '--rgb-mean': [123.68, 116.779, 103.939]}, {'list of images': 'abc'})


def result(name, error=None):
    classes = [{'index': index, 'name': f'tench, "Tinca" é {index}', 'probability': 0.1 + index} for index in (0, 1)]
    return {'file': name, 'error': error, 'classes': [] if error else classes}


RESULTS = [
    result('first.jpg', 'first.jpg: "cannot", be read'),
    result('a,b\nc.jpg'),
    result(os.fsdecode(b'caf\xe9.jpg')),
    result('line\r\nfeed\u2028.jpg'),
    result('last.jpg', 'not an image'),
]


def as_json(results):
    return json.dumps(results, indent=2) + '\n'


def as_csv(results):
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['file', 'error', 'class_1', 'probability_1', 'class_2', 'probability_2'])
    for one in results:
        cells = [cell for found in one['classes'] for cell in (found['name'], found['probability'])]
        writer.writerow([one['file'], one['error'] or '', *cells])
    return text.getvalue()


AT_ONCE = {'.json': as_json, '.csv': as_csv}


@pytest.mark.parametrize('suffix', FORMATS)
@pytest.mark.parametrize('size', [1, 2, 5])
@pytest.mark.parametrize('stop', range(5))
def test_parts_make_the_whole(tmp_path, suffix, size, stop):
    """In batches of some sizes, by a run that ends after each number of images, and by another one."""
    output = tmp_path / f'found{suffix}'

    def add(results, until):
        while results.done < until:
            results.add(RESULTS[results.done : min(results.done + size, until)])

    with pytest.raises(KeyboardInterrupt), saved_results(output, len(RESULTS), NUM_CLASSES, ORIGIN) as results:
        add(results, stop)
        raise KeyboardInterrupt
    assert not output.exists()
    assert (tmp_path / f'found{suffix}.partial').exists() == (stop > 0)
    with saved_results(output, len(RESULTS), NUM_CLASSES, ORIGIN) as results:
        assert results.done == stop
        add(results, len(RESULTS))
    assert output.read_bytes() == AT_ONCE[suffix](RESULTS).encode(errors='backslashreplace')
    assert list(tmp_path.iterdir()) == [output]


def test_interrupt_between_writing_and_counting(tmp_path, monkeypatch):
    """The batch is written again."""
    output = tmp_path / 'found.csv'
    with pytest.raises(KeyboardInterrupt), saved_results(output, len(RESULTS), NUM_CLASSES, ORIGIN) as results:
        results.add(RESULTS[:2])
        with monkeypatch.context() as patch:
            patch.setattr(Tally, 'plus', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            results.add(RESULTS[2:4])
    with saved_results(output, len(RESULTS), NUM_CLASSES, ORIGIN) as results:
        assert results.done == 2
        results.add(RESULTS[2:])
    assert output.read_bytes() == as_csv(RESULTS).encode(errors='backslashreplace')


def test_killed_after_the_end(tmp_path):
    """The output is complete; the next run replaces it."""
    output = tmp_path / 'found.csv'
    with pytest.raises(KeyboardInterrupt), saved_results(output, len(RESULTS), NUM_CLASSES, ORIGIN) as results:
        results.add(RESULTS)
        raise KeyboardInterrupt
    (tmp_path / 'found.csv.partial' / 'results.csv').rename(output)
    with pytest.raises(KeyboardInterrupt), saved_results(output, len(RESULTS), NUM_CLASSES, ORIGIN) as results:
        assert results.done == 0
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [output]


def test_output_with_the_name_of_another_file(tmp_path):
    with saved_results(tmp_path / 'state.json', len(RESULTS), NUM_CLASSES, ORIGIN) as results:
        results.add(RESULTS[:1])
        results.save()
        results.add(RESULTS[1:])
    assert (tmp_path / 'state.json').read_bytes() == as_json(RESULTS).encode()


def test_no_image_can_be_read(tmp_path):
    contexts = (counted_results(), saved_results(tmp_path / 'found.csv', 2, NUM_CLASSES, ORIGIN))
    for context in contexts:
        with pytest.raises(UserError, match='^first.jpg: "cannot", be read$'), context as results:
            results.add(RESULTS[:1])
            results.add(RESULTS[-1:])
        assert list(tmp_path.iterdir()) == []


def test_differences():
    other = Origin({'--engine': 'openvino', '--rgb-mean': [123.68, 116.779, 104.0]}, {'list of images': 'abd'})
    assert ORIGIN.differences(ORIGIN) == []
    assert ORIGIN.differences(other) == [
        '--engine was mxnet, is openvino',
        '--rgb-mean was 123.68,116.779,103.939, is 123.68,116.779,104',
        'another list of images',
    ]
