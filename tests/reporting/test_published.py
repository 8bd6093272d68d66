"""published.py and published.json: README shows the same numbers, and a run is compared with those that fit."""

import re
import shlex
from decimal import Decimal

import pytest

from helpers.commands import PROJECT
from imagenet.common.errors import UserError
from imagenet.reporting.json_files import read_json
from imagenet.reporting.published import FILE, comparable_runs, read_published

README = (PROJECT / 'README.md').read_text(encoding='utf-8')
SECTION = re.search(r'^### Which GPUs\n(.*?)^## ', README, re.MULTILINE | re.DOTALL)[1]
MIXED, FLOAT32 = 'mixed', 'float32'


def readme_table(first):
    """Return the machines or other titles, and the rows, of the README's table that begins with this title."""
    lines = re.search(rf'^\| {first} \|.*\n(?:\|.*\n)+', SECTION, re.MULTILINE)[0].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip('|').split('|')] for line in lines)
    return header[1:], rows


def pairs(cells, separator):
    """Return the two numbers of each cell that is not empty, with its title."""
    return [(title, *map(Decimal, cell.split(separator))) for title, cell in cells if cell]


def number(value):
    """Return exactly the decimal number in the file."""
    return Decimal(str(value))


def precision_of(run):
    return MIXED if run.precision == MIXED else FLOAT32


def published(mode, **attributes):
    """Return the published runs with these attributes."""
    attributes['mode'] = mode
    found = [run for run in read_published() if attributes.items() <= vars(run).items()]
    assert found
    return found


def test_file_fits_its_schema():
    read_json(FILE, FILE.with_name('published_schema.json'), 'a file of published results')


def test_every_run_is_published_once():
    what = ('model', 'machine', 'mode', 'precision', 'ngpus', 'batch_size', 'epochs')
    keys = [tuple(getattr(run, name) for name in what) for run in read_published()]
    assert len(set(keys)) == len(keys) == 69


def test_percentiles_ascend():
    for run in published('val'):
        latencies = [run.metrics[f'val.latency_{percentile}'] for percentile in (50, 90, 95, 99)]
        assert latencies == sorted(latencies)


def test_speed_of_training_in_readme():
    machines, rows = readme_table('GPUs')
    *speeds, (label, *batch_sizes) = rows
    shown = {}
    for ngpus, *cells in speeds:
        for machine, mixed, float32 in pairs(zip(machines, cells), '/'):
            shown[machine, int(ngpus), MIXED], shown[machine, int(ngpus), FLOAT32] = mixed, float32
    runs = published('train')
    assert shown == {
        (run.machine, run.ngpus, precision_of(run)): number(run.metrics['train.total_ips']) for run in runs
    }
    assert label == 'batch size per GPU'
    sizes = {
        (machine, precision, int(size))
        for machine, cell in zip(machines, batch_sizes)
        for precision, size in zip((MIXED, FLOAT32), cell.split('/'))
    }
    assert sizes == {(run.machine, precision_of(run), run.batch_size) for run in runs}


def test_speed_of_inference_in_readme():
    machines, rows = readme_table('batch size')
    shown = {
        (machine, int(size)): numbers for size, *cells in rows for machine, *numbers in pairs(zip(machines, cells), ',')
    }
    assert shown == {
        (run.machine, run.batch_size): [
            number(run.metrics['val.total_ips']),
            1000 * number(run.metrics['val.latency_avg']),
        ]
        for run in published('val', ngpus=1, precision=MIXED)
    }


def test_accuracy_in_readme():
    _, rows = readme_table('machine')
    shown = {}
    for machine, recipe, *cells in rows:
        for title, *numbers in pairs(zip(('top-1', 'hours'), cells), '/'):
            for precision, value in zip((MIXED, FLOAT32), numbers):
                shown[machine, recipe, precision, title] = value
    expected = {}
    for run in published('train_val', ngpus=8):
        recipe = f'{run.epochs}, mixup {run.mixup}' if run.mixup else str(run.epochs)
        key = (run.machine, recipe, precision_of(run))
        expected[(*key, 'top-1')] = 100 * number(run.metrics['val.top1'])
        if run.total_duration is not None:
            expected[(*key, 'hours')] = number(run.total_duration) / 3600
    assert shown == expected


def test_containers_in_readme():
    a100, others = re.search(r'A100 with container ([\d.]+), the others with\s+([\d.]+)\.', SECTION).groups()
    assert {(run.container, 'A100' in run.machine) for run in read_published()} == {(a100, True), (others, False)}


def options_of(command):
    """Return the options of a command as a dict; all of them have values."""
    words = shlex.split(command, comments=True)[1:]
    return dict(zip(words[::2], words[1::2]))


def test_benchmarks_in_readme_use_the_published_batch_sizes():
    commands = [options_of(line) for line in re.findall(r'^    (\./benchmark\.py .*)', SECTION, re.MULTILINE)]
    training = {(command['-n'], command['-b']) for command in commands if command['--mode'] == 'train'}
    expected = {}
    for run in published('train', precision=MIXED):
        expected.setdefault((run.machine, run.batch_size), []).append(str(run.ngpus))
    assert training == {(','.join(counts), str(size)) for (_, size), counts in expected.items()}
    (inference,) = (command for command in commands if command['--mode'] == 'val')
    assert inference['-b'].split(',') == sorted({str(run.batch_size) for run in published('val')}, key=int)


def test_recipe_in_readme_uses_the_published_batch_sizes():
    lines = re.search(r'The recipe, as published:\n\n((?: {4}.*\n)+)', README)[1].splitlines()
    known = {(run.ngpus, run.batch_size, precision_of(run), run.epochs, run.mixup) for run in published('train_val')}
    for options in map(options_of, lines):
        precision = FLOAT32 if options.get('--dtype') == 'float32' else MIXED
        epochs, mixup = int(options.get('--num-epochs', 90)), float(options.get('--mixup', 0))
        assert (int(options['-n']), int(options['-b']), precision, epochs, mixup) in known


@pytest.mark.parametrize('path', sorted(PROJECT.glob('recipes/resnet50_[0-9]*e.args')), ids=lambda path: path.stem)
def test_accuracy_in_recipes(path):
    text = path.read_text(encoding='utf-8')
    epochs = int(re.search(r'--num-epochs (\d+)', text)[1])
    shown = re.findall(r'([\d.]+) %', text)
    runs = published('train_val', ngpus=8, precision=MIXED, epochs=epochs)
    # The V100 first, as in the text.
    top1 = [run.metrics['val.top1'] for run in sorted(runs, key=lambda run: run.container)]
    assert list(map(float, shown)) == pytest.approx([100 * value for value in top1], abs=0.005)


def make_report(*command, ngpus=8, model='resnetv15-50', phases=('train', 'val'), epochs=2):
    metrics = {f'{phase}.total_ips': [100.0] * epochs for phase in phases}
    return {'model': model, 'ngpus': ngpus, 'cmd': ['train.py', *command], 'metrics': metrics}


MACHINES = ('DGX A100 80GB', 'DGX-1 V100 16GB', 'DGX-2 V100 32GB')


@pytest.mark.parametrize(
    ('report', 'machine', 'expected'),
    [
        (make_report('--dtype', 'float16', '--num-epochs', '7'), '', [(name, 'train', 'mixed') for name in MACHINES]),
        (make_report('--dtype=float32', '--amp'), '', [(name, 'train', 'mixed') for name in MACHINES]),
        (
            make_report('--dtype', 'float32', phases=['train'], epochs=90),
            '',
            [(name, 'train', kind) for name, kind in zip(MACHINES, ('TF32', 'FP32', 'FP32'))],
        ),
        (
            make_report('--dtype', 'float32', '--dtype', 'float16', '--num-epochs=50'),
            'dgx-1',
            [('DGX-1 V100 16GB', mode, 'mixed') for mode in ('train', 'train_val')],
        ),
        (make_report(ngpus=4), 'A100', [('DGX A100 80GB', 'train', kind) for kind in ('mixed', 'TF32')]),
        (
            make_report('--dtype', 'float16', epochs=90),
            'DGX A100',
            [('DGX A100 80GB', mode, 'mixed') for mode in ('train', 'train_val')],
        ),
        (
            make_report('--batch-size', '256', phases=['val'], ngpus=1),
            '',
            [(name, 'val', 'mixed') for name in ('DGX A100 80GB', 'DGX-1 V100 16GB', 'T4')],
        ),
        (make_report('--batch-size', phases=['val'], ngpus=1), 'T4', 10 * [('T4', 'val', 'mixed')]),
    ],
    ids=range(8),
)
def test_comparable_runs(report, machine, expected):
    found = comparable_runs(report, machine)
    assert [(run.machine, run.mode, run.precision) for run in found] == expected


def test_accuracy_after_as_many_epochs():
    found = comparable_runs(make_report('--dtype', 'float16', '--num-epochs', '250', epochs=90), 'DGX-1')
    accuracies = [(run.epochs, run.mixup, run.metrics) for run in found if run.mode == 'train_val']
    assert accuracies == [(250, 0.2, {'val.top1': 0.7846})]


@pytest.mark.parametrize(
    ('report', 'machine', 'message'),
    [
        (
            make_report(),
            'H100',
            '--published H100: nothing is published for machine H100, only for DGX A100 80GB, DGX-1',
        ),
        (
            make_report(model='xception'),
            '',
            '--published: nothing is published for model xception, only for resnetv15-50',
        ),
        (make_report(phases=[]), '', 'for mode none, only for train, train_val, val'),
        (make_report(ngpus=3), '', 'for ngpus 3, only for 1, 2, 4, 8, 16'),
        (make_report(ngpus=2), 'a100', 'for ngpus 2, only for 1, 4, 8'),
        (make_report(phases=['val']), 'T4', 'for ngpus 8, only for 1'),
        (make_report('--dtype', 'bfloat16'), '', 'for precision bfloat16, only for FP32, TF32, mixed'),
        (make_report('--batch-size', '7', phases=['val'], ngpus=1), '', 'for batch_size 7, only for 1, 2, 4, 8, 16, '),
        (make_report(model=1000 * 'a'), '', f'for model {200 * "a"}…, only for'),
    ],
    ids=range(9),
)
def test_nothing_to_compare_with(report, machine, message):
    with pytest.raises(UserError) as error:
        comparable_runs(report, machine)
    assert message in str(error.value)
