"""Runs of train.py started by runner in this process: what they compute and write."""

import json
import shutil

import pytest

from helpers.commands import (
    SMALL,
    assert_user_error,
    call_here,
    succeed_here,
    training,
)
from imagenet.reporting.epoch_summary import run_summary
from imagenet.reporting.report_file import read_report
from imagenet.runtime.compat import mx

pytestmark = pytest.mark.usefixtures('device')


def run(data, workspace, *options, **settings):
    return call_here('./runner', *SMALL, '--data-root', data, '--workspace', workspace, *options, **settings)


def validate(data, workspace, checkpoint, *options):
    result = run(data, workspace, '--mode', 'val', '--load', checkpoint, *options)
    assert result.returncode == 0, result.stderr
    return read_report(workspace / 'report.json')['metrics']


def visible_files(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


def test_each_device_has_its_turn(device, small_data, tmp_path):
    succeed_here(*training(small_data, tmp_path, '-e', '1', '--benchmark-iters', '2'))
    lines = [json.loads(line[len('DLLL ') :]) for line in (tmp_path / 'dllogger_log.log').read_text().splitlines()]
    assert next(line['data']['device'] for line in lines if line.get('step') == 'PARAMETER') == device


@pytest.mark.only_on_cpu('checks a run on a CPU')
def test_workspace_after_training(trained):
    names = ['classes.txt', 'dllogger_log.log', 'log.log', 'model_best.params', 'model_resume.json']
    names += [f'model_resume_0002_000000_{part}.params' for part in ('optimizer', 'parameters')] + ['report.json']
    assert visible_files(trained) == names
    report = read_report(trained / 'report.json')
    assert report['model'] == 'resnetv15-10'
    assert report['ngpus'] == 1
    assert report['total_duration'] > 0
    assert report['cmd'][0].endswith('train.py')
    assert report['options']['seed'] == 7
    # A default that depends on the device.
    assert report['options']['dtype'] == 'float32'
    assert 'training_stages' not in report['options']
    assert report['environment']['mxnet'] == mx.__version__
    assert ' cores, ' in report['environment']['machine']
    latencies = [f'latency_{suffix}' for suffix in ('avg', '50', '90', '95', '99', '100')]
    expected = {f'train.{name}' for name in ('top1', 'top5', 'loss', 'lr', 'total_ips', *latencies)}
    expected |= {f'val.{name}' for name in ('top1', 'top5', 'loss', 'time', 'total_ips', *latencies)}
    assert set(report['metrics']) == expected
    assert {len(values) for values in report['metrics'].values()} == {2}
    # Every validation image was counted, but no padding.
    assert all(value * 70 == pytest.approx(round(value * 70)) for value in report['metrics']['val.top1'])


@pytest.mark.only_on_cpu('checks a run on a CPU')
def test_dllogger_lines_of_a_run(trained):
    lines = [json.loads(line[5:]) for line in (trained / 'dllogger_log.log').read_text().splitlines()]
    logged = [line for line in lines if line['type'] == 'LOG']
    assert logged[0]['step'] == 'PARAMETER'
    assert logged[0]['data']['seed'] == 7
    assert [line['step'] for line in logged if len(line['step']) == 1] == [[0], [1]]
    assert logged[-1]['step'] == []
    report = read_report(trained / 'report.json')
    for values, epoch in ((logged[-2]['data'], -1), (logged[-3]['data'], -2)):
        assert values['val.accuracy'] == report['metrics']['val.top1'][epoch]
        assert values['val.loss'] == report['metrics']['val.loss'][epoch]
        assert values['train.top1'] == report['metrics']['train.top1'][epoch]
    assert logged[-1]['data'] == run_summary(report['metrics'])


@pytest.mark.only_on_cpu('must exactly match a run on a CPU')
def test_saved_checkpoint_has_the_reported_accuracy(small_data, trained, tmp_path):
    best = max(read_report(trained / 'report.json')['metrics']['val.top1'])
    assert validate(small_data, tmp_path, trained / 'model_best.params')['val.top1'] == [best]


@pytest.mark.only_on_cpu('must exactly match a run on a CPU')
def test_accuracy_does_not_depend_on_the_form_of_the_network(small_data, trained, tmp_path):
    layouts = [f'--{name}-layout' for name in ('input', 'conv', 'batchnorm', 'pooling')]
    options = [part for option in layouts for part in (option, 'NHWC')]
    options += ['--image-shape', '4,32,32', '--fuse-bn-relu', '0', '--fuse-bn-add-relu', '1', '--no-fuse']
    best = max(read_report(trained / 'report.json')['metrics']['val.top1'])
    assert validate(small_data, tmp_path, trained / 'model_best.params', *options)['val.top1'] == [best]
    assert (tmp_path / 'log.log').read_text().count('--fuse-bn-add-relu 1: this MXNet has no such operator') == 1


@pytest.mark.parametrize(
    'arch', ['resnetv1', 'resnetv1c', 'resnetv1d', 'resnetv1s', 'resnextv1', 'resnextv15', 'xception']
)
def test_every_architecture_trains(small_data, tmp_path, arch):
    options = ('--arch', arch, '--num-layers', '50', '-e', '1', '--benchmark-iters', '2', '-b', '4')
    result = run(small_data, tmp_path, *options)
    assert result.returncode == 0, result.stderr
    assert read_report(tmp_path / 'report.json')['model'].startswith(arch)


@pytest.mark.only_on_cpu('the order of additions varies on GPUs')
def test_same_seed_gives_the_same_numbers(small_data, trained, tmp_path):
    succeed_here(*training(small_data, tmp_path))
    first, second = (read_report(folder / 'report.json')['metrics'] for folder in (trained, tmp_path))
    for name in ('train.loss', 'val.loss', 'val.top1'):
        assert first[name] == second[name]


@pytest.mark.only_on_cpu('the order of additions varies on GPUs')
def test_drawn_seed_is_told_and_repeats_the_run(small_data, tmp_path):
    options = ('--mode', 'train', '-e', '1', '--benchmark-iters', '3', '--save-frequency', '0')
    first = run(small_data, tmp_path / '1', *options)
    seed = first.stdout.splitlines()[0].rsplit('seed ', 1)[1]
    run(small_data, tmp_path / '2', *options, '--seed', seed)
    losses = [read_report(tmp_path / name / 'report.json')['metrics']['train.loss'] for name in '12']
    assert losses[0] == losses[1]


def test_data_files_given_by_name(small_data, tmp_path):
    """train.py's options override --data-root, and each file has its own index."""
    for name in ('a.rec', 'a.idx'):
        shutil.copy(small_data / f'val{name[1:]}', tmp_path / name)
    options = ('--data-train', tmp_path / 'a.rec', '--data-val', tmp_path / 'a.rec', '--num-classes', '10', '-e', '1')
    result = run('/nowhere', tmp_path, *options)
    assert result.returncode == 0, result.stderr
    assert 'step' not in result.stdout
    assert read_report(tmp_path / 'report.json')['metrics']['val.top1'][0] * 70 % 1 == pytest.approx(0, abs=1e-6)


def test_training_starts_from_a_loaded_network(small_data, trained, tmp_path):
    """With a learning rate of 0, the saved weights equal the loaded ones."""
    options = ('--load', trained / 'model_best.params', '--mode', 'train', '-e', '1', '-l', '0')
    assert run(small_data, tmp_path, *options).returncode == 0
    loaded, saved = (mx.nd.load(str(path)) for path in (trained / 'model_best.params', tmp_path / 'model_0001.params'))
    for name, array in loaded.items():
        if 'running' not in name:
            assert (array == saved[name]).asnumpy().all(), name


def test_modes_do_what_they_say(small_data, tmp_path):
    assert run(small_data, tmp_path, '--mode', 'train', '-e', '1').returncode == 0
    names = set(read_report(tmp_path / 'report.json')['metrics'])
    assert names
    assert all(name.startswith('train.') for name in names)
    assert (tmp_path / 'model_0001.params').exists()


def test_fit_options(small_data, tmp_path):
    """File names, how often to save and to print, and steps per epoch."""
    options = ('--model-prefix', 'digits', '--save-frequency', '1', '--disp-batches', '2', '--benchmark-iters', '4')
    names = ('--log', 'a.log', '--dllogger-log', 'b.log', '--report', 'c.json')
    result = run(small_data, tmp_path, '-e', '2', *options, *names)
    assert result.returncode == 0, result.stderr
    files = [
        'a.log',
        'b.log',
        'c.json',
        'classes.txt',
        'digits_0001.params',
        'digits_0002.params',
        'digits_best.params',
        'digits_resume.json',
        'digits_resume_0002_000000_optimizer.params',
        'digits_resume_0002_000000_parameters.params',
    ]
    assert visible_files(tmp_path) == files
    steps = [line for line in (tmp_path / 'a.log').read_text().splitlines() if ' step ' in line]
    assert [line.split(':')[0] for line in steps] == [f'epoch {e} step {s}/4' for e in (1, 2) for s in (2, 4)]
    assert result.stdout == (tmp_path / 'a.log').read_text()


@pytest.fixture(scope='module')
def plain_losses(small_data, tmp_path_factory):
    """The losses of ten steps with the unchanged recipe."""
    workspace = tmp_path_factory.mktemp('plain')
    succeed_here(*training(small_data, workspace, '--benchmark-iters', '5'))
    return read_report(workspace / 'report.json')['metrics']['train.loss']


@pytest.mark.parametrize(
    'options', [('--mom', '0'), ('--wd', '0.1'), ('--label-smoothing', '0'), ('--lr', '0.01'), ('--warmup-epochs', '0')]
)
def test_recipe_options_change_the_result(small_data, plain_losses, tmp_path, options):
    succeed_here(*training(small_data, tmp_path, '--benchmark-iters', '5', *options))
    assert read_report(tmp_path / 'report.json')['metrics']['train.loss'][-1] != plain_losses[-1]


def test_synthetic_data_needs_no_files(tmp_path):
    options = ('--data-backend', 'synthetic', '--num-classes', '10', '--num-examples', '40', '-e', '1')
    assert run('/nowhere', tmp_path, *options).returncode == 0
    assert read_report(tmp_path / 'report.json')['metrics']['val.top1'][0] * 40 % 1 == pytest.approx(0)


class TestBadInput:
    """Each mistake is reported in one line, with exit code 2."""

    @pytest.fixture
    def data(self, small_data, tmp_path):
        return shutil.copytree(small_data, tmp_path / 'data')

    def test_image_that_does_not_decode(self, trained, tmp_path):
        (tmp_path / 'cat.jpg').write_text('no cat')
        options = ('--mode', 'pred', '--load', trained / 'model_best.params', '--data-pred', tmp_path / 'cat.jpg')
        assert_user_error(run('/nowhere', tmp_path, *options), tmp_path / 'cat.jpg', 'not an image')

    def test_checkpoint_of_another_network(self, data, trained, tmp_path):
        options = ('--mode', 'val', '--load', trained / 'model_best.params', '--num-layers', '34')
        assert_user_error(run(data, tmp_path, *options), 'parameters of another network')


class TestReadingAlone:
    @pytest.mark.parametrize('backend', ['dali-cpu', 'mxnet', 'synthetic'])
    @pytest.mark.parametrize(('mode', 'images'), [('train', 240), ('val', 70)])
    def test_reads_an_epoch(self, small_data, tmp_path, backend, mode, images):
        options = ['--test-io', '--test-io-mode', mode, '--data-backend', backend, '--disp-batches', '2']
        options += ['--num-examples', images] if backend == 'synthetic' else []
        output = succeed_here('./runner', *SMALL, '--data-root', small_data, '--workspace', tmp_path, *options)
        assert 'step 2/' in output
        final = output.splitlines()[-1]
        assert final.startswith(f'read {images} images in ')
        logged = json.loads((tmp_path / 'dllogger_log.log').read_text().splitlines()[-1][len('DLLL ') :])
        assert logged['step'] == []
        assert f'{logged["data"][f"{mode}.ips"]:.1f} images/s' in final
        assert not (tmp_path / 'report.json').exists()


TINY = ('--image-shape', '3,32,32', '--val-image-size', '32', '-b', '4', '-e', '1', '--benchmark-iters', '2')


@pytest.mark.only_on_cpu('on GPUs, DALI decodes with dali-gpu')
@pytest.mark.parametrize(
    ('recipe', 'options'),
    [
        ('efficientnet_b0', ('--data-val-resize', '36')),
        ('resnet50_a1', ('--num-layers', '10')),
        ('resnet50_a3', ('--num-layers', '10')),
        (
            'resnet50_progressive_28e',
            ('--num-layers', '10', '--image-sizes', '0:32', '--stage-batch-sizes', '8', '--data-val-resize', '36'),
        ),
    ],
)
def test_recipes_run(small_data, tmp_path, recipe, options):
    """With tiny images and networks, everything else in a recipe works together."""
    data = ('--data-root', small_data, '--workspace', tmp_path, '--device', 'cpu')
    succeed_here('./runner', f'@recipes/{recipe}.args', *TINY, *options, *data, '--warmup-epochs', '0')
    metrics = read_report(tmp_path / 'report.json')['metrics']
    assert len(metrics['val.top1']) == 1
