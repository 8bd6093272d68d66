"""Many networks validated with the same images: a table with a row for each, the most accurate first."""

from dataclasses import dataclass, field

from imagenet.common.files import write_atomically
from imagenet.common.text import printable
from imagenet.inference.example_results import write_csv

FORMATS = ('.csv', '.md')
# The metrics of a validation that are compared, and how many digits Markdown has.
METRICS = {'top1': 4, 'top5': 4, 'real_top1': 4, 'loss': 4, 'total_ips': 1}
COLUMN_NAMES = {'total_ips': 'images_per_second'}


@dataclass(frozen=True)
class ComparedNetwork:
    """A row of the table.

    Attributes:
        path: of the network, as `--load` would name it.
        model: the name of the network; '' if it is unknown.
        image_size: the height and width of its images, such as '224x224'; '' if it is unknown.
        metrics: of its validation, by their names in a report, without 'val.'.
        error: why it was not validated, in one line; '' if it was.
    """

    path: str
    model: str = ''
    image_size: str = ''
    metrics: dict = field(default_factory=dict)
    error: str = ''


def write_comparison(path, networks):
    """Write a table of `ComparedNetwork`s as CSV or, if the name ends with .md, as Markdown.

    Raises:
        UserError: the file cannot be written.
    """
    if path.suffix == '.csv':
        write_csv(path, *_table(networks))
    else:
        write_atomically(path, lambda temporary: temporary.write_text(f'{as_markdown(networks)}\n', encoding='utf-8'))


def as_markdown(networks):
    """Return a table of `ComparedNetwork`s."""
    # Loaded here because only comparisons need it.
    from tabulate import tabulate

    columns, rows = _table(networks)
    cells = [[_as_cell(name, value) for name, value in zip(columns, row)] for row in rows]
    return tabulate(cells, columns, tablefmt='github', disable_numparse=True)


def _table(networks):
    """Return the names of the columns, and the rows in the order of their accuracy; those that failed come last."""
    metrics = [name for name in METRICS if any(name in network.metrics for network in networks)]
    columns = ('network', 'model', 'image_size', *(COLUMN_NAMES.get(name, name) for name in metrics), 'error')
    order = sorted(networks, key=lambda network: (network.error != '', -network.metrics.get('top1', 0), network.path))
    rows = [
        (item.path, item.model, item.image_size, *(item.metrics.get(name, '') for name in metrics), item.error)
        for item in order
    ]
    return columns, rows


def _as_cell(column, value):
    if isinstance(value, float):
        metric = next((metric for metric, name in COLUMN_NAMES.items() if name == column), column)
        return f'{value:.{METRICS[metric]}f}'
    return printable(str(value)).replace('|', '\\|')
