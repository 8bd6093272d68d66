"""The results of benchmark.py: saved after every run, shown as tables and figures."""

import itertools
import json
import math
import sys
from collections import namedtuple
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import write_json
from imagenet.common.text import printable
from imagenet.reporting.figures import import_pyplot, save_figure
from imagenet.reporting.json_files import read_json

SCHEMA = Path(__file__).resolve().with_name('sweep_schema.json')
# Ending of a metric's name: its label, and the factor that converts the report's unit to the label's.
SHOWN = {'total_ips': ('images/s', 1), 'latency_avg': ('latency ms', 1000)}
SHOWN.update({f'latency_{percentile}': (f'{percentile} %', 1000) for percentile in (50, 90, 95, 99, 100)})
LINE_STYLES = {'train': '-', 'val': '--'}


class Run(namedtuple('Run', 'ngpus batch_size engine', defaults=(None,))):
    """One run of a sweep: the number of devices, the batch size, and the engine, which is None if it is not chosen."""

    def __str__(self):
        return f'{self.ngpus} x {self.batch_size}' + (f', {self.engine}' if self.engine else '')


class Sweep:
    """Metrics by number of devices, batch size and engine.

    Args:
        ngpus, batch_sizes: the sweep's axes.
        metric_keys: names of the measured metrics.
        environment: dict of the machine, the versions and the `options`.
        engines: the third axis, values of --engine; None if it is not swept over.

    Attributes:
        model: name of the network; None until a run has reported it.
    """

    def __init__(self, ngpus, batch_sizes, metric_keys, environment, engines=None):
        self.engines = engines and list(engines)
        self.ngpus = list(ngpus)
        self.batch_sizes = list(batch_sizes)
        self.metric_keys = list(metric_keys)
        self.environment = environment
        self.model = None
        self._metrics = {}
        self._failures = {}

    def runs(self):
        """Return the `Run`s in order: the engines alternate."""
        return [Run(*axes) for axes in itertools.product(self.ngpus, self.batch_sizes, self.engines or [None])]

    def is_done(self, run):
        return run in self._metrics

    def add(self, run, model, metrics):
        """Store what a run has measured: the name of the network, and metrics by name."""
        self.model = model
        self._metrics[run] = metrics

    def fail(self, run, reason):
        """Store a line that explains why a run has measured nothing."""
        self._metrics[run] = dict.fromkeys(self.metric_keys, math.nan)
        self._failures[run] = reason

    def value(self, run, name):
        """Return a metric; NaN if the run failed, None if it has not run yet."""
        return self._metrics.get(run, {}).get(name)

    def failures(self):
        """Return (run, reason) for each run that failed."""
        return list(self._failures.items())

    def save(self, path):
        """Write everything as JSON, with NaN as null; a reader finds the previous file or this one.

        Raises:
            UserError: the file cannot be written.
        """
        metrics = {
            run: {name: None if math.isnan(value) else value for name, value in values.items()}
            for run, values in self._metrics.items()
        }
        content = {
            'model': self.model,
            **({'engines': self.engines} if self.engines else {}),
            'ngpus': self.ngpus,
            'bs': self.batch_sizes,
            'metric_keys': self.metric_keys,
            'metrics': self._in_rows(metrics),
            'failures': self._in_rows(self._failures),
            'is_complete': all(map(self.is_done, self.runs())),
            'environment': self.environment,
        }
        write_json(path, content)

    def _in_rows(self, entries):
        """Return the entries of runs by number of devices and batch size, and before these by engine if it is swept."""
        rows = {}
        for run, entry in entries.items():
            place = rows.setdefault(run.engine, {}) if self.engines else rows
            place.setdefault(str(run.ngpus), {})[str(run.batch_size)] = entry
        return rows

    def resume(self, path):
        """Load the results of an interrupted sweep from its file; a complete sweep is ignored.

        Returns:
            The number of runs that were loaded.

        Raises:
            UserError: the file is not a sweep, or the sweep has other options.
        """
        if path is None or not Path(path).exists():
            return 0
        content = read_json(path, SCHEMA, 'a sweep', f'--output {path}', 'choose another name')
        if content['is_complete']:
            return 0
        own = [self.engines, self.ngpus, self.batch_sizes, self.metric_keys, self.environment['options']]
        other = [content.get(name) for name in ('engines', 'ngpus', 'bs', 'metric_keys')]
        other.append(content['environment']['options'])
        if json.loads(json.dumps(own)) != other:
            raise UserError(
                f'--output {path}: an interrupted sweep with other options; use its options, or choose another name'
            )
        self.model = content['model']
        done = self._known_runs(content['metrics'])
        for run, values in done.items():
            self._metrics[run] = {name: math.nan if value is None else value for name, value in values.items()}
        self._failures.update(
            {run: reason for run, reason in self._known_runs(content['failures']).items() if run in done}
        )
        return len(done)

    def _known_runs(self, rows):
        """Return the entries of this sweep's runs from a file's rows."""
        by_engine = rows if self.engines else {None: rows}
        found = {
            Run(int(ngpus), int(size), engine): entry
            for engine, of_engine in by_engine.items()
            for ngpus, row in of_engine.items()
            for size, entry in row.items()
        }
        return {run: found[run] for run in self.runs() if run in found}


def shown_as(name):
    """Return (label, factor) for a metric; see `SHOWN`."""
    phase, ending = name.split('.')
    label, factor = SHOWN[ending]
    return f'{phase}\n{label}', factor


def headers(sweep):
    engine = ['engine'] if sweep.engines else []
    return [*engine, 'devices', 'batch\nsize', *(shown_as(name)[0] for name in sweep.metric_keys)]


def row(sweep, run):
    """Return the cells of a run's row; a failed run has NaN and the number of its footnote."""
    cells = []
    for name in sweep.metric_keys:
        value = sweep.value(run, name)
        cells.append('' if value is None else f'{value * shown_as(name)[1]:.2f}')
    failed = [run for run, _ in sweep.failures()]
    if run in failed:
        cells[0] += f' [{failed.index(run) + 1}]'
    return [*filter(None, [run.engine]), str(run.ngpus), str(run.batch_size), *cells]


def tables(sweep, style):
    """Return all runs as a table in one of `tabulate`'s styles, with a footnote for each failed run."""
    from tabulate import tabulate

    rows = [row(sweep, run) for run in sweep.runs() if sweep.is_done(run)]
    # A cell of a Markdown table must be a single line.
    names = [name.replace('\n', ' ') if style == 'github' else name for name in headers(sweep)]
    alignment = ['right'] * len(names) if rows else None
    table = tabulate(rows, names, tablefmt=style, disable_numparse=True, colalign=alignment)
    notes = [f'[{number + 1}] {run}: {printable(reason)}' for number, (run, reason) in enumerate(sweep.failures())]
    return '\n'.join([table, '', *notes] if notes else [table])


def text_tables(sweep):
    return tables(sweep, 'simple')


def markdown_tables(sweep):
    """Return all runs as a Markdown table with a title, for a document."""
    machine = sweep.environment.get('machine', '')
    return f'## {sweep.model}\n\n{machine}\n\n{tables(sweep, "github")}\n'


class LiveTable:
    """A table that grows on a terminal; elsewhere, a line for each run."""

    def __init__(self, sweep):
        self._sweep = sweep
        self._live = None

    def __enter__(self):
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(self._render(None), transient=True)
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live is not None:
            self._live.stop()

    def _render(self, running):
        from rich.table import Table

        table = Table(caption=f'running {running}' if running else None)
        for header in headers(self._sweep):
            table.add_column(header, justify='right')
        for run in filter(self._sweep.is_done, self._sweep.runs()):
            table.add_row(*(cell.replace('[', r'\\[') for cell in row(self._sweep, run)))
        return table

    def begin(self, run):
        if self._live is not None:
            self._live.update(self._render(run), refresh=True)

    def end(self, run):
        if self._live is None:
            names = [name.replace('\n', ' ') for name in headers(self._sweep)]
            print(', '.join(f'{name} {cell}' for name, cell in zip(names, row(self._sweep, run))), flush=True)
        else:
            self._live.update(self._render(None), refresh=True)


def plot(sweep, output):
    """Draw throughput and latency over the batch size; with several device counts, also throughput over these.

    Raises:
        UserError: the figure cannot be written.
    """
    panels = [('batch size per device', 'total_ips'), ('batch size per device', 'latency_avg')]
    panels += [('devices', 'total_ips')] if len(sweep.ngpus) > 1 else []
    figure, all_axes = import_pyplot().subplots(
        1, len(panels), figsize=(5.5 * len(panels), 4.5), constrained_layout=True
    )
    figure.suptitle(f'{printable(sweep.model)}, {sweep.environment.get("machine", "")}', parse_math=False)
    for axes, (over, ending) in zip(all_axes, panels):
        for name in sweep.metric_keys:
            if name.endswith(ending):
                _draw(axes, sweep, name, over)
        ticks = sweep.ngpus if over == 'devices' else sweep.batch_sizes
        axes.set_xscale('log', base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        # Space for the legend above the lines.
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
        label = {'total_ips': 'images/s', 'latency_avg': 'milliseconds per batch'}[ending]
        axes.set(xlabel=over, ylabel=label, title='Throughput' if ending == 'total_ips' else 'Latency')
        axes.grid(alpha=0.3)
        axes.legend(fontsize='small', loc='upper left', ncol=2)
    save_figure(figure, output, '--plot')


def _draw(axes, sweep, name, over):
    """Draw a line over the batch size for each engine and number of devices, or the other way round."""
    phase = name.split('.')[0]
    is_over_devices = over == 'devices'
    lines = itertools.product(sweep.engines or [None], sweep.batch_sizes if is_over_devices else sweep.ngpus)
    for number, (engine, fixed) in enumerate(lines):
        along = sweep.ngpus if is_over_devices else sweep.batch_sizes
        runs = [Run(value, fixed, engine) if is_over_devices else Run(fixed, value, engine) for value in along]
        values = [(sweep.value(run, name) or math.nan) * shown_as(name)[1] for run in runs]
        held = f'batch size {fixed}' if is_over_devices else f'{fixed} device{"s" * (fixed > 1)}'
        label = f'{engine or phase}, {held}'
        axes.plot(along, values, LINE_STYLES[phase], color=f'C{number}', marker='o', markersize=3, label=label)
