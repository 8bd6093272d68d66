"""report.json: what a run measured, for CI systems and for people.

python report.py plot report.json -o curves.png
"""

import json
from pathlib import Path

from errors import UserError, one_line_errors
from files import write_atomically
from options import ArgumentParser


class Report:
    """The report of one run.

    Attributes:
        model: name of the network.
        ngpus: number of devices (GPUs, or CPU processes) over all processes.
        total_duration: seconds that the run has taken, in all its sessions.
        time_to_accuracy: with `--early-stop-top1`, once it is reached: the wanted `top1`, the `epochs` it took, and
            `seconds`.
        cmd: the command, a list of arguments.
        metrics: a list per name with one value per epoch. `{train,val,ema}.{top1,top5}` are fractions, `.loss` is the
            mean per example, `.total_ips` images per second over all devices, `.time` and `.latency_*` seconds, the
            latter per batch (mean and percentiles). `ema` is validation with averaged parameters.
    """

    def __init__(self, model, ngpus, cmd):
        self.model = model
        self.ngpus = ngpus
        self.cmd = list(cmd)
        self.total_duration = 0.0
        self.time_to_accuracy = None
        self.metrics = {}

    def add(self, phase, values):
        """Adds one epoch's values of a phase ('train' or 'val')."""
        for name, value in values.items():
            self.metrics.setdefault(f'{phase}.{name}', []).append(value)

    def save(self, path):
        """Writes the report; a reader finds the previous one or this one, never a part."""
        content = {
            'model': self.model,
            'ngpus': self.ngpus,
            'total_duration': self.total_duration,
            'cmd': self.cmd,
            'metrics': self.metrics,
        }
        if self.time_to_accuracy is not None:
            content['time_to_accuracy'] = self.time_to_accuracy
        write_atomically(path, lambda temporary: temporary.write_text(json.dumps(content, indent=2) + '\n'))


def read_report(path):
    """The content of a report as a dict.

    Raises:
        UserError: the file is not a report.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f'{path}: cannot read this report ({error.strerror})') from None
    except ValueError as error:
        raise UserError(f'{path}: not JSON ({error})') from None
    if not isinstance(content, dict) or not isinstance(content.get('metrics'), dict):
        raise UserError(f'{path}: not a report (no "metrics" in it)')
    for name, values in content['metrics'].items():
        if not isinstance(values, list) or not all(isinstance(value, (int, float)) for value in values):
            raise UserError(f'{path}: not a report ("{name}" is not a list of numbers)')
    return content


def is_of_training(path):
    """Whether there is a report, and of a run that trained."""
    try:
        return any(name.startswith('train.') for name in read_report(path)['metrics'])
    except UserError:
        return False


# (title, axis label, metrics drawn)
PANELS = (
    ('Loss', 'cross-entropy', ('train.loss', 'val.loss')),
    ('Accuracy', 'fraction of images', ('train.top1', 'val.top1', 'train.top5', 'val.top5')),
    ('Speed', 'images/s', ('train.total_ips', 'val.total_ips')),
)


def plot(path, output):
    """Draws a report's curves over epochs into a picture."""
    # Imported here, since training and `--help` must not wait for it.
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    report = read_report(path)
    figure, all_axes = plt.subplots(1, len(PANELS), figsize=(15, 4.5), constrained_layout=True)
    figure.suptitle(f'{report.get("model", "")}: {path}', parse_math=False)
    for axes, (title, label, names) in zip(all_axes, PANELS):
        for name in names:
            values = report['metrics'].get(name, [])
            if values:
                style = '-' if name.startswith('train') else '--'
                axes.plot(range(1, len(values) + 1), values, style, marker='o', markersize=3, label=name)
        axes.set(title=title, xlabel='epoch', ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if label == 'images/s':
            axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend()
    try:
        figure.savefig(output, dpi=100)
    except (OSError, ValueError) as error:
        raise UserError(f'-o {output}: cannot write this picture ({error})') from None
    plt.close(figure)


def main():
    parser = ArgumentParser(description='Works with the report.json of a run.')
    commands = parser.add_subparsers(dest='command', required=True)
    plot_parser = commands.add_parser('plot', help='draw loss, accuracy and speed over epochs')
    plot_parser.add_argument('report', type=Path)
    plot_parser.add_argument('-o', '--output', type=Path, required=True, help='the picture, for example curves.png')
    args = parser.parse_args()
    with one_line_errors():
        plot(args.report, args.output)


if __name__ == '__main__':
    main()
