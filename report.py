#!/usr/bin/env python3
"""Shows, checks, compares and plots report.json, the measurements of a run, for people, browsers and CI systems.

report.py show report.json
report.py check report.json "val.top1>=0.97" "train.total_ips>=100"
report.py compare a.json b.json
report.py compare report.json --published A100
report.py plot report.json -o curves.png
report.py html report.json -o run.html
"""

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('tabulate', 'jsonschema', 'matplotlib', 'vl_convert')

import math
import operator
import re
import statistics
import sys
from pathlib import Path

from imagenet.common.errors import FAILED_EXIT_CODE, UserError, one_line_errors
from imagenet.common.options import ArgumentParser
from imagenet.common.program import run_program
from imagenet.common.text import printable
from imagenet.reporting.analysis_folder import read_analysis
from imagenet.reporting.figures import as_label, import_pyplot, save_figure
from imagenet.reporting.html_page import write_page
from imagenet.reporting.presentation import PANELS, columns_of, count_epochs, drawn, in_order, shown
from imagenet.reporting.published import comparable_runs
from imagenet.reporting.report_file import describe_best, read_report


def is_better_low(name):
    """Return whether lower values of a metric are better."""
    return not name.endswith(('top1', '.top5', '.total_ips', '.lr'))


def best(name, values):
    """Return the value of the best epoch."""
    return min(values) if is_better_low(name) else max(values)


def _count(number, noun):
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def show(report):
    """Return the text of `report.py show`: the run, and a row per epoch."""
    from tabulate import tabulate

    metrics = report['metrics']
    columns, epochs = columns_of([report]), count_epochs(report)
    rows = [
        [epoch + 1, *(shown(metrics[name][epoch]) if epoch < len(metrics[name]) else '' for name in columns)]
        for epoch in range(epochs)
    ]
    lines = [
        f'{printable(report["model"])} on {_count(report["ngpus"], "device")}, '
        f'{_count(epochs, "epoch")} in {report["total_duration"]:.1f} s',
        printable(' '.join(report['cmd'])),
        '',
        tabulate(rows, headers=['epoch', *columns], disable_numparse=True, stralign='right'),
    ]
    if 'best' in report:
        lines.append(describe_best(report['best']))
    if 'time_to_accuracy' in report:
        reached = report['time_to_accuracy']
        lines.append(f'top-1 {reached["top1"]:g} after {reached["epochs"]} epochs, {reached["seconds"]:.1f} s')
    return '\n'.join(lines)


def compare(paths, reports, published=()):
    """Return the text of `report.py compare`: each run's best and last epoch, with images/s relative to the first.

    Args:
        published: `PublishedRun`s, for columns after the runs. Their numbers are both in the best and in the last row.
    """
    from tabulate import tabulate

    columns = [_run_column(path, report) for path, report in zip(paths, reports)] + _published_columns(published)
    titles, facts, metrics = zip(*columns)
    rows = [[name, *(known.get(name, '') for known in facts)] for name in ('devices', 'epochs', 'seconds')]
    for name in columns_of(reports):
        for kind in ('best', 'last'):
            values = [FUNCTIONS[kind](name, known.get(name, [math.nan])) for known in metrics]
            rows.append([f'{kind} {name}', *_beside_the_first(name, values)])
    alignment = ['left', *['right'] * len(columns)]
    table = tabulate(rows, headers=['', *titles], disable_numparse=True, colalign=alignment)
    sources = [f'Published by NVIDIA: {source}' for source in dict.fromkeys(run.source for run in published)]
    return '\n'.join([table, '', *sources] if sources else [table])


def _run_column(path, report):
    """Return (title, facts by name, metrics) for a run."""
    seconds = shown(report['total_duration'])
    facts = {'devices': report['ngpus'], 'epochs': count_epochs(report), 'seconds': seconds}
    return printable(path), facts, report['metrics']


def _published_columns(runs):
    """Return [(title, facts by name, metrics)] for published runs, with speed and accuracy in the same column."""
    columns = {}
    for run in runs:
        title = f'{run.machine}\n{run.precision}, {run.batch_size} per GPU\ncontainer {run.container}'
        _, facts, metrics = columns.setdefault(title, (title, {'devices': run.ngpus}, {}))
        metrics.update({name: [value] for name, value in run.metrics.items()})
        if run.epochs is not None:
            facts['epochs'] = f'{run.epochs} (mixup {run.mixup:g})' if run.mixup else run.epochs
        if run.total_duration is not None:
            facts['seconds'] = shown(run.total_duration)
    return list(columns.values())


def _beside_the_first(name, values):
    """Yield the values as text, and speeds with their ratio to the first."""
    for value in values:
        has_ratio = name.endswith('.total_ips') and value is not values[0] and values[0] > 0
        ratio = f' ({value / values[0]:.2f}x)' if has_ratio else ''
        yield '' if math.isnan(value) else shown(value) + ratio


EXPRESSION = re.compile(
    r'\s*(?:(?P<function>[a-z]+)\(\s*(?P<inner>[\w.]+)\s*\)|(?P<name>[\w.]+))\s*'
    r'(?P<operator>>=|<=|==|>|<)\s*(?P<limit>[-+]?[\d.]+(?:e[-+]?\d+)?)\s*'
)
OPERATORS = {'>=': operator.ge, '<=': operator.le, '==': operator.eq, '>': operator.gt, '<': operator.lt}
FUNCTIONS = {
    'best': best,
    'last': lambda _, values: values[-1],
    'first': lambda _, values: values[0],
    'mean': lambda _, values: statistics.mean(values),
    'min': lambda _, values: min(values),
    'max': lambda _, values: max(values),
}


def check(report, expression):
    """Return whether an expression such as 'val.top1>=0.97' or 'last(train.loss)<2' holds, and the value it refers to.

    Without a function, this is the value of the best epoch.

    Raises:
        UserError: the expression is invalid, or the report does not contain the metric.
    """
    match = EXPRESSION.fullmatch(expression)
    try:
        limit = float(match['limit'])
        function = FUNCTIONS[match['function'] or 'best']
    except (TypeError, ValueError, KeyError):
        raise UserError(
            f'"{expression}" is not a check; use a metric, one of >= <= == > <, and a number, for example '
            f'"val.top1>=0.97"; the metric may be inside {", ".join(f"{name}()" for name in FUNCTIONS)}'
        ) from None
    name = match['inner'] or match['name']
    values = {**report['metrics'], **{name: [report[name]] for name in ('total_duration', 'ngpus')}}
    if 'time_to_accuracy' in report:
        values['time_to_accuracy'] = [report['time_to_accuracy']['seconds']]
    if name not in values:
        raise UserError(f'"{expression}": the report has no {name}; it has {", ".join(in_order(values))}')
    value = function(name, values[name])
    return OPERATORS[match['operator']](value, limit), value


def run_checks(path, expressions):
    """Print a line for each expression, as `report.py check` does, and return the exit code."""
    report = read_report(path)
    results = [(expression, *check(report, expression)) for expression in expressions]
    for expression, is_so, value in results:
        print(f'{"ok    " if is_so else "FAILED"} {expression}   ({value!r})')
    return 0 if all(is_so for _, is_so, _ in results) else FAILED_EXIT_CODE


LINE_STYLES = {'train': '-', 'val': '--', 'ema': ':'}


def plot(paths, reports, output):
    """Draw curves over epochs to a file, with a color for each metric, or for each run if there are several."""
    figure, grid = import_pyplot().subplots(2, 2, figsize=(12, 8), constrained_layout=True)
    models = ', '.join(dict.fromkeys(report['model'] for report in reports))
    figure.suptitle(as_label(models if len(paths) > 1 else f'{models}: {paths[0]}'))
    for axes, (title, label, names) in zip(grid.flat, PANELS):
        for number, (path, report) in enumerate(zip(paths, reports)):
            color = f'C{number}' if len(paths) > 1 else None
            _draw_run(axes, report['metrics'], drawn(names, len(paths)), color, as_label(path))
        axes.set(title=title, xlabel='epoch', ylabel=label)
        axes.locator_params(axis='x', integer=True)
        axes.grid(alpha=0.3)
        if label == 'images/s':
            axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend(fontsize='small')
    save_figure(figure, output, '-o')


def _draw_run(axes, metrics, names, colour, run):
    for name in names:
        values = metrics.get(name, [])
        if not values:
            continue
        label = f'{name}, {run}' if colour else name
        style = LINE_STYLES[name.split('.')[0]]
        axes.plot(range(1, len(values) + 1), values, style, color=colour, marker='o', markersize=3, label=label)


def parse_args():
    parser = ArgumentParser(description='Shows, checks, compares and plots the report.json of runs.')
    commands = parser.add_subparsers(dest='command', required=True)
    show_parser = commands.add_parser('show', help='print a run, one line per epoch')
    check_parser = commands.add_parser(
        'check',
        help='exit with code 1 unless all expressions hold',
        description='Exit with code 1 unless all expressions hold.',
    )
    compare_parser = commands.add_parser(
        'compare',
        help='print runs side by side, also with the results that NVIDIA published',
        usage='%(prog)s [-h] reports [reports ...] [--published [MACHINE]]',
        description='Print the best and the last epoch of runs side by side, and images/s relative to the first run.',
    )
    plot_parser = commands.add_parser('plot', help='draw loss, accuracy, learning rate and speed over epochs')
    html_parser = commands.add_parser(
        'html',
        help='write a page for a browser: curves, epochs, options that differ, environment',
        description='Write one file that a browser opens without network access: the curves of one or several runs, '
        'their best results, epochs, options that differ, and environment.',
    )
    for one in (show_parser, check_parser):
        one.add_argument('report', type=Path)
    for several in (compare_parser, plot_parser, html_parser):
        several.add_argument('reports', type=Path, nargs='+')
    check_parser.add_argument(
        'expressions',
        nargs='+',
        metavar='EXPRESSION',
        help='such as "val.top1>=0.97" (the best epoch), "last(train.loss)<2", "mean(train.total_ips)>100"',
    )
    compare_parser.add_argument(
        '--published',
        nargs='?',
        const='',
        metavar='MACHINE',
        help='after the reports: add what NVIDIA published for the network, mode, number of GPUs and precision of the '
        'first one, and the batch size if it is of inference; on all machines, or on those with MACHINE in their name, '
        'such as A100, V100, DGX-1 or T4',
    )
    plot_parser.add_argument(
        '-o', '--output', type=Path, required=True, help='the figure to write, for example curves.png'
    )
    html_parser.add_argument('-o', '--output', type=Path, required=True, help='the page to write, for example run.html')
    html_parser.add_argument(
        '--analysis', type=Path, metavar='DIR', help='show the analysis that --mode val --analyze DIR wrote, too'
    )
    return parser.parse_args()


def main():
    with one_line_errors():
        args = parse_args()
        if args.command == 'show':
            print(show(read_report(args.report)))
        elif args.command == 'check':
            sys.exit(run_checks(args.report, args.expressions))
        else:
            reports = [read_report(path) for path in args.reports]
            if args.command == 'compare':
                published = () if args.published is None else comparable_runs(reports[0], args.published)
                print(compare(args.reports, reports, published))
            elif args.command == 'plot':
                plot(args.reports, reports, args.output)
            else:
                analysis = None if args.analysis is None else read_analysis(args.analysis, '--analysis')
                write_page(args.output, args.reports, reports, analysis)


if __name__ == '__main__':
    run_program(main)
