"""analysis_figures.py: for few and for many classes, no text hides another one or is cut off."""

import itertools

import numpy as np
import pytest

from imagenet.reporting.analysis_figures import draw_confusion, draw_reliability, draw_training_images
from imagenet.reporting.figures import import_pyplot

# Letters are a little smaller than their boxes.
PIXELS = 2


@pytest.fixture(autouse=True)
def _closed():
    yield
    import_pyplot().close('all')


def names_of(num_classes):
    return [f'{number} a name of $20 that is too long' for number in range(num_classes)]


def boxes(figure):
    """Return the boxes of all texts that are drawn."""
    figure.canvas.draw()
    texts = [text for axes in figure.axes for text in (*axes.texts, axes.title, axes._left_title)]
    for axis in (axis for axes in figure.axes if axes.axison for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_ticklocs(), axis.get_ticklabels())
        texts += [axis.label, *(label for place, label in ticks if low <= place <= high)]
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


def assert_readable(figure):
    found, page = boxes(figure), figure.bbox.padded(PIXELS)
    assert all(page.contains(*corner) for box in found for corner in (box.min, box.max))
    for one, other in itertools.combinations(found, 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert width <= PIXELS or height <= PIXELS, (one, other)


@pytest.mark.parametrize('num_classes', [2, 10, 30, 31, 1000])
def test_confusion(num_classes):
    random = np.random.RandomState(0)
    matrix = np.diag(np.full(num_classes, 40))
    np.add.at(matrix, tuple(random.randint(0, num_classes, (2, 10 * num_classes))), 1)
    cells = [(label, said, matrix[label, said]) for label, said in zip(*matrix.nonzero())]
    listed = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    figure = draw_confusion(cells, listed, matrix.sum(axis=1), names_of(num_classes))
    assert_readable(figure)
    (text,) = (text for axes in figure.axes for text in axes.texts if '→' in text.get_text())
    label, said, count = listed[0]
    first = text.get_text().splitlines()[0].split()
    assert first[:2] == [str(count), str(label)]
    assert first[first.index('→') + 1] == str(said)


@pytest.mark.parametrize('num_classes', [10, 40])
def test_no_mistakes(num_classes):
    cells = [(label, label, 5) for label in range(num_classes)]
    figure = draw_confusion(cells, [], np.full(num_classes, 5), names_of(num_classes))
    assert_readable(figure)
    assert 'no mistakes' in [axes.get_title(loc='left') for axes in figure.axes]


def test_reliability():
    counts, probabilities = np.array([0, 3, 5]), np.array([np.nan, 0.5, 0.9])
    figure = draw_reliability(counts, probabilities, np.array([np.nan, 0.4, 1]), 0.1)
    assert_readable(figure)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0, 0.4, 1]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [0, 3, 5]


@pytest.mark.parametrize('num_classes', [2, 10, 1000])
def test_training_images(num_classes):
    """Most classes of ImageNet have 1300 training images."""
    random = np.random.RandomState(0)
    training_images = np.minimum(1300, random.randint(700, 3000, num_classes))
    top1 = random.uniform(0.2, 1, num_classes)
    top1[1] = np.nan
    figure = draw_training_images(training_images, top1, names_of(num_classes))
    assert_readable(figure)
    points = figure.axes[0].collections[0].get_offsets()
    assert len(points) == num_classes - 1
    if num_classes == 1000:
        numbers, means = figure.axes[0].lines[0].get_data()
        assert numbers[-1] == 1300
        assert means[-1] == pytest.approx(np.nanmean(top1[training_images == 1300]))
        assert (np.diff(numbers) > 0).all()
