"""The results of benchmark.py: saved after every run, shown as tables and figures."""

import json
import math
import sys
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


class Sweep:
    """Metrics by number of devices and batch size.

    Args:
        ngpus, batch_sizes: the sweep's axes.
        metric_keys: names of the measured metrics.
        environment: dict of the machine, the versions and the `options`.

    Attributes:
        model: name of the network; None until a run has reported it.
    """

    def __init__(self, ngpus, batch_sizes, metric_keys, environment):
        self.ngpus = list(ngpus)
        self.batch_sizes = list(batch_sizes)
        self.metric_keys = list(metric_keys)
        self.environment = environment
        self.model = None
        self._metrics = {}
        self._failures = {}

    def pairs(self):
        """Return (devices, batch size) of all runs, in order."""
        return [(ngpus, batch_size) for ngpus in self.ngpus for batch_size in self.batch_sizes]

    def is_done(self, pair):
        return pair in self._metrics

    def add(self, pair, model, metrics):
        """Store what a run has measured: the name of the network, and metrics by name."""
        self.model = model
        self._metrics[pair] = metrics

    def fail(self, pair, reason):
        """Store a line that explains why a run has measured nothing."""
        self._metrics[pair] = dict.fromkeys(self.metric_keys, math.nan)
        self._failures[pair] = reason

    def value(self, pair, name):
        """Return a metric; NaN if the run failed, None if it has not run yet."""
        return self._metrics.get(pair, {}).get(name)

    def failures(self):
        """Return (pair, reason) for each run that failed."""
        return list(self._failures.items())

    def save(self, path):
        """Write everything as JSON, with NaN as null; a reader finds the previous file or this one.

        Raises:
            UserError: the file cannot be written.
        """
        metrics, failures = {}, {}
        for (ngpus, batch_size), values in self._metrics.items():
            numbers = {name: None if math.isnan(value) else value for name, value in values.items()}
            metrics.setdefault(str(ngpus), {})[str(batch_size)] = numbers
        for (ngpus, batch_size), reason in self._failures.items():
            failures.setdefault(str(ngpus), {})[str(batch_size)] = reason
        content = {
            'model': self.model,
            'ngpus': self.ngpus,
            'bs': self.batch_sizes,
            'metric_keys': self.metric_keys,
            'metrics': metrics,
            'failures': failures,
            'is_complete': all(map(self.is_done, self.pairs())),
            'environment': self.environment,
        }
        write_json(path, content)

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
        own = [self.ngpus, self.batch_sizes, self.metric_keys, self.environment['options']]
        other = [*(content[name] for name in ('ngpus', 'bs', 'metric_keys')), content['environment']['options']]
        if json.loads(json.dumps(own)) != other:
            raise UserError(
                f'--output {path}: an interrupted sweep with other options; use its options, or choose another name'
            )
        self.model = content['model']
        done = self._known_runs(content['metrics'])
        for pair, values in done.items():
            self._metrics[pair] = {name: math.nan if value is None else value for name, value in values.items()}
        self._failures.update(
            {pair: reason for pair, reason in self._known_runs(content['failures']).items() if pair in done}
        )
        return len(done)

    def _known_runs(self, rows):
        """Return the entries of this sweep's runs, by pair, from a file's rows."""
        found = {(int(ngpus), int(size)): entry for ngpus, row in rows.items() for size, entry in row.items()}
        return {pair: found[pair] for pair in self.pairs() if pair in found}


def shown_as(name):
    """Return (label, factor) for a metric; see `SHOWN`."""
    phase, ending = name.split('.')
    label, factor = SHOWN[ending]
    return f'{phase}\n{label}', factor


def headers(sweep):
    return ['devices', 'batch\nsize', *(shown_as(name)[0] for name in sweep.metric_keys)]


def row(sweep, pair):
    """Return the cells of a run's row; a failed run has NaN and the number of its footnote."""
    cells = []
    for name in sweep.metric_keys:
        value = sweep.value(pair, name)
        cells.append('' if value is None else f'{value * shown_as(name)[1]:.2f}')
    failed = [pair for pair, _ in sweep.failures()]
    if pair in failed:
        cells[0] += f' [{failed.index(pair) + 1}]'
    return [*map(str, pair), *cells]


def tables(sweep, style):
    """Return all runs as a table in one of `tabulate`'s styles, with a footnote for each failed run."""
    from tabulate import tabulate

    rows = [row(sweep, pair) for pair in sweep.pairs() if sweep.is_done(pair)]
    # A cell of a Markdown table must be a single line.
    names = [name.replace('\n', ' ') if style == 'github' else name for name in headers(sweep)]
    alignment = ['right'] * len(names) if rows else None
    table = tabulate(rows, names, tablefmt=style, disable_numparse=True, colalign=alignment)
    notes = [
        f'[{number + 1}] {ngpus} x {batch_size}: {printable(reason)}'
        for number, ((ngpus, batch_size), reason) in enumerate(sweep.failures())
    ]
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

        table = Table(caption=f'running {running[0]} x {running[1]}' if running else None)
        for header in headers(self._sweep):
            table.add_column(header, justify='right')
        for pair in filter(self._sweep.is_done, self._sweep.pairs()):
            table.add_row(*(cell.replace('[', r'\\[') for cell in row(self._sweep, pair)))
        return table

    def begin(self, pair):
        if self._live is not None:
            self._live.update(self._render(pair), refresh=True)

    def end(self, pair):
        if self._live is None:
            names = [name.replace('\n', ' ') for name in headers(self._sweep)]
            print(', '.join(f'{name} {cell}' for name, cell in zip(names, row(self._sweep, pair))), flush=True)
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
    """Draw a line over the batch size for each number of devices, or the other way round."""
    phase = name.split('.')[0]
    is_over_devices = over == 'devices'
    for number, fixed in enumerate(sweep.batch_sizes if is_over_devices else sweep.ngpus):
        along = sweep.ngpus if is_over_devices else sweep.batch_sizes
        pairs = [(value, fixed) if is_over_devices else (fixed, value) for value in along]
        values = [(sweep.value(pair, name) or math.nan) * shown_as(name)[1] for pair in pairs]
        label = f'{phase}, batch size {fixed}' if is_over_devices else f'{phase}, {fixed} device{"s" * (fixed > 1)}'
        axes.plot(along, values, LINE_STYLES[phase], color=f'C{number}', marker='o', markersize=3, label=label)
