"""html_page.py, html_charts.py, html_elements.py: what the page of reports contains; programs/ has it in a browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from helpers.pages import metrics_of, report_of
from imagenet.common.errors import UserError
from imagenet.reporting.analysis_folder import Analysis
from imagenet.reporting.html_elements import element, fragment
from imagenet.reporting.html_page import make_page, run_names, write_page

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;\x1b[31m\ud800'
# Elements without an end.
VOID = {'meta', 'link', 'img'}


class Reader(HTMLParser):
    """Reads a page, and checks that every element ends.

    Attributes:
        found: [name, text] of each element.
        tables: the rows of each table, as lists of texts.
        attributes: (element, name, value) of each attribute.
    """

    def __init__(self, page):
        super().__init__()
        self.found, self.tables, self.attributes, self._open = [], [], [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in VOID:
            self.found.append([tag, ''])
            self._open.append(self.found[-1])
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])

    def handle_endtag(self, tag):
        name, text = self._open.pop()
        assert name == tag
        if tag in ('td', 'th'):
            self.tables[-1][-1].append(text)

    def handle_data(self, data):
        for entry in self._open:
            entry[1] += data

    def texts(self, tag):
        return [text for name, text in self.found if name == tag]


def read_page(*reports, paths=None, analysis=None):
    page = make_page(paths or [f'runs/run{number}/report.json' for number in range(len(reports))], reports, analysis)
    return Reader(page.encode().decode())


def test_analysis():
    summary = {'images': 70, 'classes': 10, 'top1': 0.5, 'top5': 0.9, 'expected_calibration_error': 0.0123}
    analysis = Analysis(summary, {'confusion.png': b'picture', 'calibration.png': b'another'})
    reader = read_page(report_of(metrics_of(1)), analysis=analysis)
    assert reader.texts('h2')[-1] == 'Analysis'
    assert '70 images of 10 classes: 50.00% top-1, 90.00% top-5, expected calibration error 0.0123' in reader.texts('p')
    assert reader.texts('figcaption')[-2:] == ['Confusion matrix', 'Calibration']
    sources = [value for tag, name, value in reader.attributes if (tag, name) == ('img', 'src')]
    encoded = [source.replace('data:image/png;base64,', '') for source in sources]
    assert list(map(base64.b64decode, encoded)) == [b'picture', b'another']


def charts_in(reader):
    script, _ = reader.texts('script')
    return json.loads(script)


def test_one_run():
    reader = read_page(report_of(metrics_of(3)), paths=['runs/first/report.json'])
    assert reader.texts('title') == ['resnetv15-18: 60.00% top-1']
    assert reader.texts('h1') == ['resnetv15-18']
    assert reader.texts('h2') == ['Run', 'Curves', 'Options', 'Epochs', 'Environment', 'Command']
    assert reader.texts('figcaption') == ['Loss', 'Accuracy', 'Learning rate', 'Speed']
    assert reader.texts('li') == [
        *('train.loss', 'val.loss', 'train.top1', 'val.top1', 'train.top5', 'val.top5'),
        *('train.lr', 'train.total_ips', 'val.total_ips'),
    ]
    facts = dict(zip(reader.texts('dt'), reader.texts('dd')))
    assert facts['lowest val.loss'] == '1.3333'
    assert facts['mean train.total_ips'] == '1234.6'
    assert facts['time'] == '1 min 15 s'
    assert facts['epochs'] == '3'
    options, epochs, environment = reader.tables
    assert ['--lr', '0.256'] in options
    assert ['--image-shape', '3,224,224'] in options
    assert ['--load', '–'] in options
    assert ['machine', 'a laptop'] in environment
    assert epochs[0][:3] == ['epoch', 'train.loss', 'train.top1']
    assert [row[0] for row in epochs[1:]] == ['1', '2', '3']
    assert epochs[3][epochs[0].index('val.top1')] == '0.6'
    assert reader.texts('pre') == ["train.py --lr 0.256 --workspace 'my runs'"]


def test_several_runs():
    first = report_of(metrics_of(4))
    second = report_of(
        metrics_of(2), options={**first['options'], 'lr': 0.1, 'seed': 2}, environment={'machine': 'a server'}
    )
    reader = read_page(first, second)
    assert reader.texts('h1') == ['resnetv15-18']
    assert 'Options that differ' in reader.texts('h2')
    differing, every, epochs, _, environment = reader.tables
    assert differing == [['', 'run0', 'run1'], ['--lr', '0.256', '0.1'], ['--seed', '–', '2']]
    assert ['--image-shape', '3,224,224'] in every
    assert len(epochs) == 1 + 4
    assert environment == [['', 'run0', 'run1'], ['machine', 'a laptop', 'a server'], ['mxnet', '1.9.1', '–']]
    loss, accuracy, *_ = charts_in(reader)
    assert [(line['run'], line['metric'], len(line['values'])) for line in loss['lines']] == [
        *(('run0', 'train.loss', 4), ('run0', 'val.loss', 4)),
        *(('run1', 'train.loss', 2), ('run1', 'val.loss', 2)),
    ]
    assert {line['metric'] for line in accuracy['lines']} == {'train.top1', 'val.top1'}
    # A run has a color, a phase has a dash.
    assert len({line['color'] for line in loss['lines']}) == 2
    assert len({tuple(line['dash']) for line in loss['lines']}) == 2
    assert reader.texts('li')[:4] == ['run0', 'run1', 'train.loss', 'val.loss']


def test_equal_options():
    report = report_of(metrics_of(2))
    assert 'The runs have the same options.' in read_page(report, report).texts('p')


def test_best_run_is_in_the_header():
    worse, better = report_of(metrics_of(2)), report_of({'ema.top1': [0.5, 0.75, 0.7]})
    reader = read_page(worse, better)
    assert reader.texts('strong') == ['75.00%']
    assert 'best top-1: in epoch 2 of 3, of the averaged parameters' in reader.texts('p')


def test_report_of_an_older_version():
    """It has neither options nor environment."""
    report = {key: value for key, value in report_of(metrics_of(2)).items() if key not in ('options', 'environment')}
    assert read_page(report).texts('h2') == ['Run', 'Curves', 'Epochs', 'Command']


@pytest.mark.parametrize(
    ('metrics', 'charts'),
    [
        ({}, []),
        # As --mode val writes it.
        ({'val.top1': [0.5], 'val.loss': [1.0], 'val.total_ips': [100.0], 'val.latency_avg': [0.1]}, []),
        ({'val.total_ips': [100.0, 90.0]}, ['Speed']),
        ({'train.loss': [1.0, 2.0, 3.0], 'val.loss': [1.0]}, ['Loss']),
        ({'train.loss': [0.0, 1e39], 'train.lr': [5e-324, 0]}, ['Loss', 'Learning rate']),
    ],
)
def test_only_what_was_measured_is_drawn(metrics, charts):
    reader = read_page(report_of(metrics))
    assert reader.texts('figcaption') == charts
    assert [chart['specification']['description'] for chart in charts_in(reader)] == [
        f'{chart} over epochs' for chart in charts
    ]


def test_latencies_of_a_validation():
    reader = read_page(report_of({'val.top1': [0.5], 'val.latency_99': [0.125]}))
    assert reader.tables[1] == [['epoch', 'val.top1', 'val.latency_99'], ['1', '0.5', '0.125']]


def test_texts_of_a_report_are_only_shown():
    report = report_of(
        metrics_of(2), model=HOSTILE, cmd=[HOSTILE], options={HOSTILE: HOSTILE}, environment={HOSTILE: HOSTILE}
    )
    reader = read_page(report, report, paths=[f'{HOSTILE}/report.json', 'other/report.json'])
    tags = {name for name, _ in reader.found}
    assert tags.isdisjoint({'img', 'iframe', 'object'})
    assert len(reader.texts('script')) == 2
    assert not any(attribute.startswith('on') for _, attribute, _ in reader.attributes)
    shown = HOSTILE.replace('\x1b', '\\x1b').replace('\ud800', '\\ud800')
    assert reader.texts('h1') == [shown]
    assert all(line['run'] in (f'{shown[:60]}…', 'other') for chart in charts_in(reader) for line in chart['lines'])


def test_policy_allows_only_the_script_of_the_page():
    reader = read_page(report_of(metrics_of(2)))
    policy = next(value for tag, name, value in reader.attributes if name == 'content' and 'script-src' in value)
    script = reader.texts('script')[1]
    found = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'unsafe-eval' 'sha256-{found}';" in policy
    assert policy.startswith("default-src 'none';")
    addresses = [value for _, name, value in reader.attributes if name in ('src', 'href', 'action')]
    assert addresses == ['data:,']
    assert not re.search(r'url\(|@import', reader.texts('style')[0])


def test_size_of_a_large_page():
    reports = [report_of(metrics_of(250)) for _ in range(5)]
    page = make_page([f'{number}.json' for number in range(5)], reports)
    assert len(page.encode()) < 2_000_000
    assert len(Reader(page).tables[-2]) == 251


@pytest.mark.parametrize(
    ('paths', 'names'),
    [
        (['report.json'], ['report.json']),
        (['/runs/a/report.json'], ['/runs/a/report.json']),
        (['runs/a/report.json', 'runs/b/report.json'], ['a', 'b']),
        (['runs/a/x/report.json', 'runs/b/y/report.json'], ['a/x', 'b/y']),
        (['runs/a.json', 'runs/b.json'], ['a.json', 'b.json']),
        (['report.json', 'a/report.json'], ['report.json', 'a']),
        (['a/report.json', 'a/b/report.json'], ['a/report.json', 'b']),
        (['a.json', 'a.json'], ['a.json', 'a.json (2)']),
        (['a/r.json', 'a/r.json', 'b/r.json'], ['a', 'a (2)', 'b']),
    ],
)
def test_names_of_runs(paths, names):
    assert run_names(paths) == names


def test_elements_escape_everything_else():
    inner = element('b', '<i>', 1, title='"<&')
    assert inner == '<b title="&quot;&lt;&amp;">&lt;i&gt;1</b>'
    assert element('p', inner, ' & ', class_='a', data_x=0, open=True, hidden=None) == (
        f'<p class="a" data-x="0" open>{inner} &amp; </p>'
    )
    assert fragment(inner, 'a\nb') == f'{inner}a\\nb'


def test_unwritable_page(tmp_path):
    with pytest.raises(UserError, match='run.html: '):
        write_page(tmp_path / 'none' / 'run.html', ['a.json'], [report_of(metrics_of(1))])
