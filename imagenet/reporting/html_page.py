"""The page of `report.py html`: one file for a browser, with everything that it needs.

A section is a function from the runs to HTML; see `SECTIONS`. An analysis, if there is one, follows them. Reports may
come from anybody, so all their texts are escaped, and the page's policy (https://www.w3.org/TR/CSP3/) lets a browser
run the page's own script alone, and load nothing.
"""

import base64
import hashlib
import itertools
import json
import shlex
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import Template

from imagenet.common.files import write_atomically
from imagenet.common.options import as_text, option_name
from imagenet.common.text import printable, shortened
from imagenet.reporting.analysis_folder import PICTURES
from imagenet.reporting.html_charts import DASHES, Line, bundle_script, chart_data, color_of
from imagenet.reporting.html_elements import element, fragment, png_image, table, table_row
from imagenet.reporting.presentation import PANELS, columns_of, count_epochs, drawn, shown
from imagenet.reporting.report_file import PHASES, VALIDATED, find_best

TEMPLATE, STYLE, SCRIPT = (Path(__file__).resolve().with_suffix(suffix) for suffix in ('.html', '.css', '.js'))
# Vega compiles its expressions with JavaScript's eval.
POLICY = "default-src 'none'; script-src 'unsafe-eval' 'sha256-{hash}'; style-src 'unsafe-inline'; img-src data:"
LONGEST_NAME = 60
# With more, a table of epochs is folded.
MOST_EPOCHS_UNFOLDED = 30
# What a run does not have, or an option that is not set.
MISSING = '–'


@dataclass(frozen=True)
class PageRun:
    """A run on the page: its report, a name that no other run has, and its color."""

    name: str
    color: str
    report: dict

    @property
    def metrics(self):
        return self.report['metrics']

    @property
    def best(self):
        return find_best(self.metrics)


def write_page(path, paths, reports, analysis=None):
    """Write the page about reports.

    Args:
        path: the file to write.
        paths, reports: where the reports are, and their content.
        analysis: an `Analysis` for the page, or None.

    Raises:
        UserError: the file cannot be written.
    """
    text = make_page(paths, reports, analysis)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))


def make_page(paths, reports, analysis=None):
    """Return the page about reports as text; see `write_page`."""
    named = zip(run_names(paths), reports)
    runs = [PageRun(name, color_of(number), report) for number, (name, report) in enumerate(named)]
    charts = [chart_data(title, label, lines) for title, label, lines in _charts(runs)]
    script = bundle_script(SCRIPT.read_text(encoding='utf-8'))
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(TEMPLATE.read_text(encoding='utf-8')).substitute(
        policy=POLICY.format(hash=script_hash),
        title=fragment(_title(runs)),
        style=STYLE.read_text(encoding='utf-8'),
        header=_header(runs),
        sections=fragment(*(make(runs) for make in SECTIONS), *([analysis_section(analysis)] if analysis else [])),
        # The end of a script element is found before its JSON is parsed.
        charts=json.dumps(charts, separators=(',', ':')).replace('<', r'\u003c'),
        script=script,
    )


def run_names(paths):
    """Return a name for each path, all different: the part in which the paths differ."""
    parts = [Path(path).parts for path in paths]
    if len(set(parts)) > 1:
        start = _count_equal(parts)
        parts = [part[start:] for part in parts]
        end = _count_equal([part[::-1] for part in parts])
        parts = [part[: len(part) - end] for part in parts]
    names = [shortened(printable(Path(*part) if part else path), LONGEST_NAME) for part, path in zip(parts, paths)]
    counts = [Counter(names[:number])[name] + 1 for number, name in enumerate(names)]
    return [name if count == 1 else f'{name} ({count})' for name, count in zip(names, counts)]


def _count_equal(sequences):
    """Return how many of their first elements are the same in all sequences."""
    columns = list(zip(*sequences))
    return next((number for number, column in enumerate(columns) if len(set(column)) > 1), len(columns))


def _title(runs):
    best = _best_run(runs)
    return _models(runs) if best is None else f'{_models(runs)}: {best.best["top1"]:.2%} top-1'


def _header(runs):
    best = _best_run(runs)
    title = element('h1', _models(runs))
    if best is None:
        return title
    accuracy = element('strong', f'{best.best["top1"]:.2%}')
    return fragment(title, element('p', 'best top-1: ', accuracy, f', {best.name}', class_='best'))


def _models(runs):
    return ', '.join(dict.fromkeys(run.report['model'] for run in runs))


def _best_run(runs):
    """Return the run with the best validation; None if there is none."""
    return max((run for run in runs if run.best), key=lambda run: run.best['top1'], default=None)


def _section(title, *children):
    return element('section', element('h2', title), *children)


def _folded(summary, *children, is_open=False):
    return element('details', element('summary', *summary), *children, open=is_open)


def runs_section(runs):
    """Return a card with the most important numbers of each run."""
    return _section('Runs' if len(runs) > 1 else 'Run', element('div', *map(_card, runs), class_='cards'))


def _card(run):
    facts = [element('div', element('dt', name), element('dd', value)) for name, value in _key_numbers(run)]
    return element('article', _title_of(run), *_accuracy(run), element('dl', *facts), class_='card')


def _title_of(run):
    return element('h3', _swatch(run.color), run.name)


def _accuracy(run):
    best = run.best
    if best is None:
        return []
    where = f'best top-1: in epoch {best["epoch"]} of {count_epochs(run.report)}, of {VALIDATED[best["phase"]]}'
    return [element('p', f'{best["top1"]:.2%}', class_='number'), element('p', where, class_='note')]


def _key_numbers(run):
    """Yield (name, text)."""
    report, metrics = run.report, run.metrics
    for phase in PHASES:
        if f'{phase}.loss' in metrics:
            yield f'lowest {phase}.loss', shown(min(metrics[f'{phase}.loss']))
    for phase in ('train', 'val'):
        if f'{phase}.total_ips' in metrics:
            yield f'mean {phase}.total_ips', shown(statistics.mean(metrics[f'{phase}.total_ips']))
    yield 'epochs', count_epochs(report)
    yield 'time', _duration(report['total_duration'])
    if 'time_to_accuracy' in report:
        reached = report['time_to_accuracy']
        yield f'time to {reached["top1"]:.2%} top-1', _duration(reached['seconds'])
    yield 'devices', report['ngpus']


def _duration(seconds):
    """Return a duration as text, such as '12.5 s', '3 min 07 s' or '26 h 10 min'."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'


def curves_section(runs):
    """Return a figure for each chart, with a place for the page's script to draw in."""
    figures = [
        element('figure', element('figcaption', title), _legend(runs, lines), element('div', class_='chart'))
        for title, _, lines in _charts(runs)
    ]
    return _section('Curves', element('div', *figures, class_='figures')) if figures else fragment()


def _charts(runs):
    """Return [(title, axis label, lines)] of the panels that have lines; nothing if no run has two epochs."""
    if max(count_epochs(run.report) for run in runs) < 2:
        return []
    charts = [(title, label, _lines(runs, drawn(names, len(runs)))) for title, label, names in PANELS]
    return [chart for chart in charts if chart[2]]


def _lines(runs, names):
    """Return the lines of a panel, with a color for each metric, or for each run if there are several."""
    return [
        Line(run.name, name, run.color if len(runs) > 1 else color_of(number), run.metrics[name])
        for run in runs
        for number, name in enumerate(names)
        if name in run.metrics
    ]


def _legend(runs, lines):
    """Return the legend of a chart: its lines or, if there are several runs, the runs and what the dashes mean."""
    if len(runs) == 1:
        entries = [(line.metric, line.color, line.dash) for line in lines]
    else:
        entries = [(line.run, line.color, DASHES['train']) for line in lines]
        entries += [(line.metric, 'currentColor', line.dash) for line in lines]
    items = (element('li', _swatch(color, dash), name) for name, color, dash in dict.fromkeys(entries))
    return element('ul', *items, class_='legend')


def _swatch(color, dash=DASHES['train']):
    """Return a short piece of a line."""
    look = {'stroke': color, 'stroke_width': 3, 'stroke_dasharray': ' '.join(map(str, dash))}
    line = element('line', x1=0, y1=5, x2=24, y2=5, **look)
    return element('svg', line, class_='swatch', viewBox='0 0 24 10', aria_hidden='true')


def options_section(runs):
    """Return the options that differ between the runs, and all options."""
    rows = {option_name(name): texts for name, texts in _facts(runs, 'options').items()}
    if not rows:
        return fragment()
    differing = {name: texts for name, texts in rows.items() if len(set(texts)) > 1}
    every = _folded([f'All {len(rows)} options'], _comparison(runs, rows))
    if len(runs) == 1:
        return _section('Options', every)
    found = _comparison(runs, differing) if differing else element('p', 'The runs have the same options.')
    return _section('Options that differ', found, every)


def environment_section(runs):
    """Return machines and versions."""
    rows = _facts(runs, 'environment')
    return _section('Environment', _comparison(runs, rows)) if rows else fragment()


def _facts(runs, key):
    """Return a dict from the names in a part of the reports to a text for each run."""
    known = [run.report.get(key, {}) for run in runs]
    names = dict.fromkeys(name for facts in known for name in facts)
    return {name: [_text(facts.get(name)) for facts in known] for name in names}


def _text(value):
    return MISSING if value is None else as_text(value) or "''"


def _comparison(runs, rows):
    """Return a table of texts, with a column for each run; where all runs have the same, there is one wide cell."""
    header = ['', *(fragment(_swatch(run.color), run.name) for run in runs)] if len(runs) > 1 else ['', '']
    return table(header, [table_row([name, *_merged(texts)]) for name, texts in rows.items()])


def _merged(texts):
    is_same = len(texts) > 1 and len(set(texts)) == 1
    return [element('td', texts[0], colspan=len(texts))] if is_same else texts


def epochs_section(runs):
    """Return a table of epochs for each run."""
    is_open = len(runs) == 1 and count_epochs(runs[0].report) <= MOST_EPOCHS_UNFOLDED
    tables = [_folded([_swatch(run.color), run.name], _epochs_table(run), is_open=is_open) for run in runs]
    return _section('Epochs', *tables)


def _epochs_table(run):
    """Return a table with the best epoch highlighted."""
    names, best_epoch = columns_of([run.report]), run.best['epoch'] if run.best else None
    columns = [list(map(shown, run.metrics[name])) for name in names]
    rows = [
        table_row([epoch, *cells], class_='is-best' if epoch == best_epoch else None)
        for epoch, cells in enumerate(itertools.zip_longest(*columns, fillvalue=''), 1)
    ]
    return table(['epoch', *names], rows, class_='numbers')


def commands_section(runs):
    """Return the command of each run."""
    commands = [
        _folded([_swatch(run.color), run.name], element('pre', shlex.join(run.report['cmd'])), is_open=len(runs) == 1)
        for run in runs
    ]
    return _section('Commands' if len(runs) > 1 else 'Command', *commands)


def analysis_section(analysis):
    """Return the numbers and pictures of an `Analysis`."""
    summary = analysis.summary
    numbers = (
        f'{summary["images"]} images of {summary["classes"]} classes: {summary["top1"]:.2%} top-1, '
        f'{summary["top5"]:.2%} top-5, expected calibration error {summary["expected_calibration_error"]:.4f}'
    )
    figures = [
        element('figure', element('figcaption', PICTURES[name]), png_image(content, PICTURES[name]))
        for name, content in analysis.pictures.items()
    ]
    return _section('Analysis', element('p', numbers), element('div', *figures, class_='pictures'))


SECTIONS = (runs_section, curves_section, options_section, epochs_section, environment_section, commands_section)
