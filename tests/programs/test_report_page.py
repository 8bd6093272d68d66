"""The page of `report.py html`, opened in a browser."""

import json

import cv2
import pytest

from helpers.chromium import is_installed, running_chromium
from helpers.commands import succeed
from helpers.pages import metrics_of, report_of
from helpers.patience import generous, wait_until

WIDTHS = (390, 1600)
SECONDS_TO_OPEN = 1
# On the lines, at the epoch under the pointer.
POINTS = '.chart .layer_2_marks path'


@pytest.fixture(scope='module')
def tab(tmp_path_factory):
    """A tab of a browser."""
    if not is_installed():
        pytest.skip('Chromium is not installed: apt-get install chromium')
    with running_chromium(tmp_path_factory.mktemp('chromium')) as tab:
        yield tab


def write_page(folder, reports):
    """Write reports in folders of these names, and their page; return its path."""
    paths = []
    for name, report in reports.items():
        (folder / name).mkdir()
        paths.append(folder / name / 'report.json')
        paths[-1].write_text(json.dumps(report))
    succeed('./report.py', 'html', *paths, '-o', folder / 'run.html')
    return folder / 'run.html'


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    """The page of five runs of 250 epochs."""
    names = ('baseline', 'mixup', 'a-much-longer-name-of-a-run-than-the-others', 'fourth', 'fifth')
    options = {f'an_option_{number}': number for number in range(150)}
    reports = {name: report_of(metrics_of(250), options={**options, 'lr': number}) for number, name in enumerate(names)}
    return write_page(tmp_path_factory.mktemp('large'), reports)


@pytest.fixture(scope='module')
def single(tmp_path_factory):
    """The page of one run of six epochs, whose network has an unpleasant name."""
    report = report_of(metrics_of(6), model='<b onmouseover="alert(1)">net</b>')
    return write_page(tmp_path_factory.mktemp('single'), {'run': report})


def overflowing(tab):
    """Return the widths of the document and of the window if the document is wider, and elements beside the window."""
    too_wide = tab.evaluate(
        '[...document.querySelectorAll("body *")].filter(e => !e.closest(".scrolls") && !e.closest("#tooltip") '
        '&& e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))'
    )
    widths = tab.evaluate('[document.documentElement.scrollWidth, innerWidth]')
    return [*too_wide, *([widths] if widths[0] > widths[1] else [])]


@pytest.mark.parametrize('width', WIDTHS)
def test_nothing_is_wrong_in_the_browser(tab, large, width):
    tab.open(large, width)
    assert tab.complaints() == []
    assert overflowing(tab) == []
    tab.evaluate('document.querySelectorAll("details").forEach(each => each.open = true)')
    assert overflowing(tab) == []
    assert [address for address in tab.requests() if not address.startswith('data:')] == [large.as_uri()]


@pytest.mark.parametrize('width', WIDTHS)
def test_axes_and_legends(tab, large, width):
    tab.open(large, width)
    assert tab.texts('.chart .role-axis-title') == [
        *('epoch', 'cross-entropy', 'epoch', 'fraction of images'),
        *('epoch', 'learning rate at the end of the epoch', 'epoch', 'images/s'),
    ]
    labels = tab.texts('.figures figure:nth-child(2) .role-axis-label text')
    assert {'100', '200', '0.0', '0.5'} <= set(labels)
    speeds = tab.texts('.figures figure:nth-child(4) .role-axis-label text')
    assert '0' in speeds
    legend = tab.texts('.figures figure:nth-child(1) .legend li')
    assert legend == [
        *('baseline', 'mixup', 'a-much-longer-name-of-a-run-than-the-others', 'fourth', 'fifth'),
        *('train.loss', 'val.loss'),
    ]
    lines = tab.evaluate('document.querySelectorAll(".figures figure:nth-child(1) .mark-line path").length')
    assert lines == 10


def test_charts_follow_the_width(tab, single):
    columns = []
    for width in WIDTHS:
        tab.open(single, width)
        lefts = tab.evaluate('[...document.querySelectorAll("figure")].map(each => each.getBoundingClientRect().x)')
        columns.append(len(set(lefts)))
        assert tab.box('.chart svg')[2] == pytest.approx(tab.box('.chart')[2], abs=2)
    assert columns == [1, 2]


def point_at(tab, selector, share):
    """Move the mouse to this share of a chart's width, at half of its height."""
    x, y, width, height = tab.box(selector)
    tab.move_mouse(x + share * width, y + height / 2)


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize(('share', 'epoch'), [(0.15, 1), (0.98, 6)])
def test_tooltip(tab, single, width, share, epoch):
    tab.open(single, width)
    assert tab.evaluate('document.querySelector("#tooltip").hidden')
    point_at(tab, '.chart', share)
    wait_until(lambda: tab.texts('#tooltip .epoch') == [f'epoch {epoch}'])
    assert tab.texts('#tooltip span') == ['train.loss', 'val.loss']
    assert [float(text) for text in tab.texts('#tooltip b')] == pytest.approx([1 + 1 / epoch] * 2, abs=1e-4)
    # Points on both lines.
    wait_until(lambda: tab.evaluate(f'document.querySelectorAll({json.dumps(POINTS)}).length') == 2)
    left, _, tooltip_width, _ = tab.box('#tooltip')
    assert left >= 0
    assert left + tooltip_width <= width
    tab.move_mouse(1, 1)
    wait_until(lambda: tab.evaluate('document.querySelector("#tooltip").hidden'))


def test_names_of_several_runs_are_in_the_tooltip(tab, large):
    tab.open(large, 1600)
    point_at(tab, '.figures figure:nth-child(3) .chart', 0.5)
    wait_until(lambda: len(tab.texts('#tooltip span')) == 5)
    assert tab.texts('#tooltip span')[:2] == ['baseline, train.lr', 'mixup, train.lr']


def test_texts_of_a_report_do_nothing(tab, single):
    tab.open(single, 1600)
    assert tab.texts('h1') == ['<b onmouseover="alert(1)">net</b>']
    assert tab.complaints() == []
    image = '<img src="file:///none.png" onerror="window.ran = 1">'
    tab.evaluate(f'document.body.insertAdjacentHTML("beforeend", {json.dumps(image)})')
    wait_until(lambda: 'Content Security Policy' in json.dumps(tab.complaints()))
    assert tab.evaluate('window.ran') is None


def test_dark(tab, single, tmp_path):
    brightness = []
    for scheme in ('light', 'dark'):
        tab.open(single, 1600, scheme)
        tab.screenshot(tmp_path / 'page.png')
        brightness.append(cv2.imread(str(tmp_path / 'page.png')).mean())
        text, label = (
            tab.evaluate(f'getComputedStyle(document.querySelector("{selector}")).{style}')
            for selector, style in (('body', 'color'), ('.chart .role-axis-label text', 'fill'))
        )
        assert text == label
    assert brightness[0] > 200 > 80 > brightness[1]


def test_time_to_open(tab, large):
    """The fastest of five times counts, because other tests run at the same time."""
    seconds = []
    for _ in range(5):
        tab.open(large, 1600)
        seconds.append(tab.seconds_until_drawn())
    assert min(seconds) < generous(SECONDS_TO_OPEN)


def test_run_that_only_validated(tab, tmp_path):
    page = write_page(tmp_path, {'run': report_of({'val.top1': [0.75], 'val.loss': [1.0]})})
    tab.open(page, 390)
    assert tab.texts('figure') == []
    assert tab.texts('.number') == ['75.00%']
    assert tab.complaints() == []
    assert overflowing(tab) == []
