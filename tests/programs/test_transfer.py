"""--finetune, --freeze and --lr-mult-features: a network that was trained for some classes learns others."""

import shutil

import numpy as np
import pytest

from helpers.commands import assert_user_error, call, call_here, succeed, succeed_here, training
from imagenet.architectures.identification import identify
from imagenet.checkpoints.description import read_description
from imagenet.checkpoints.parameters import read_arrays, write_arrays
from imagenet.datasets.class_names import IMAGENET_CLASS_FILE
from imagenet.reporting.report_file import read_report
from imagenet.runtime import processor

pytestmark = pytest.mark.usefixtures('device')

NORM_LEAVES = ('gamma', 'beta', 'running_mean', 'running_var')
IS_FROZEN = {
    'features': lambda name: name.startswith('features.'),
    'batchnorm': lambda name: name.endswith(NORM_LEAVES),
}


@pytest.fixture(scope='module')
def few_classes(small_tree, tmp_path_factory):
    """The digits from 5 to 9 as record files."""
    raw = tmp_path_factory.mktemp('few') / 'raw'
    for folder in small_tree.glob('*/[5-9]_*'):
        shutil.copytree(folder, raw / folder.relative_to(small_tree))
    succeed('scripts/prepare_imagenet.sh', raw, raw.parent / 'data')
    return raw.parent / 'data'


@pytest.fixture(scope='module')
def few_trained(trained, few_classes, tmp_path_factory):
    """The trained network with a new output layer for the five digits."""
    workspace = tmp_path_factory.mktemp('few_trained')
    succeed(*finetuning(trained / 'model_best.params', few_classes, workspace, '--freeze', 'features', '-e', '1'))
    return workspace / 'model_best.params'


def finetuning(load, data, workspace, *options):
    """Return the command for two epochs; the network and its images are those of the file."""
    command = ['./runner', '--finetune', '--load', load, '--data-root', data, '--workspace', workspace, '-b', '16']
    return [*command, '-e', '2', '-l', '0.05', '--warmup-epochs', '0', '--seed', '7', *options]


def numbers(path):
    return {name: array.asnumpy() for name, array in read_arrays(path).items()}


def assert_frozen(found, expected, freeze):
    """Assert that the frozen parameters are equal, and that the others are not."""
    for name, array in found.items():
        is_equal = array.shape == expected[name].shape and (array == expected[name]).all()
        assert is_equal == IS_FROZEN[freeze](name), name


@pytest.mark.parametrize('freeze', ['features', 'batchnorm'])
def test_new_output_layer(trained, few_classes, tmp_path, freeze):
    load = trained / 'model_best.params'
    run = finetuning(load, few_classes, tmp_path, '--freeze', freeze, '--ema-decay', '0.9', '--mixup', '0.2')
    output = succeed_here(*run)
    new_layer = f'--finetune: the output layer of --load {load}, for 10 classes, is replaced by a new one for 5'
    assert new_layer in output
    description = read_description(tmp_path / 'model_best.params', identify).known
    assert description['image_shape'] == read_description(load, identify).known['image_shape']
    assert description['num_classes'] == 5
    assert description['classes'] == ('5_five', '6_six', '7_seven', '8_eight', '9_nine')
    for name in ('model_best.params', 'model_ema_best.params'):
        assert_frozen(numbers(tmp_path / name), numbers(load), freeze)

    again = succeed_here(*run, '-e', '3')
    assert 'resuming from' in again
    assert new_layer not in again
    best = max(read_report(tmp_path / 'report.json')['metrics']['val.top1'])
    validate = ('./runner', '--mode', 'val', '--load', tmp_path / 'model_best.params', '--data-root', few_classes)
    succeed_here(*validate, '-b', '16', '--workspace', tmp_path / 'val')
    assert read_report(tmp_path / 'val' / 'report.json')['metrics']['val.top1'] == [best]


def test_seed_determines_the_new_output_layer(trained, few_classes, tmp_path):
    """With a learning rate of 0, the drawn layer remains."""
    for workspace, seed in (('first', 7), ('again', 7), ('other', 8)):
        run = finetuning(trained / 'model_best.params', few_classes, tmp_path / workspace, '-l', '0', '-e', '1')
        succeed_here(*run, '--freeze', 'features', '--seed', seed)
    first, again, other = (numbers(tmp_path / name / 'model_best.params') for name in ('first', 'again', 'other'))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    weight = first['output.weight']
    assert weight.std() == pytest.approx(np.sqrt(2 / weight.shape[1]), rel=0.1)
    assert (weight != other['output.weight']).all()
    assert not first['output.bias'].any()


@pytest.mark.parametrize(
    'options',
    [
        ('--freeze', 'features', '--dropout', '0.3'),
        ('--freeze', 'batchnorm', '--lr-mult-features', '0.1', '--grad-accum-steps', '2', '--grad-clip-norm', '1'),
    ],
)
@pytest.mark.gpus(2)
def test_two_processes(trained, few_classes, tmp_path, options):
    """Both start from the same new layer, or the run would end; what is frozen stays bit-identical on each."""
    load = trained / 'model_best.params'
    run = finetuning(load, few_classes, tmp_path, '-n', '2', '-b', '8', '--ema-decay', '0.9', *options)
    assert succeed(*run, '--run-epochs', '1').count('is replaced by a new one for 5') == 1
    assert '1 of 2 epochs and 0 steps are done' in succeed(*run)
    for name in ('model_best.params', 'model_ema_best.params'):
        assert_frozen(numbers(tmp_path / name), numbers(load), options[1])


def test_other_classes_of_the_same_number(trained, small_data, tmp_path):
    """The names in the file show that they are others."""
    data = shutil.copytree(small_data, tmp_path / 'data')
    names = (data / 'classes.txt').read_text().split()
    (data / 'classes.txt').write_text('\n'.join(reversed(names)))
    load = trained / 'model_best.params'
    output = succeed_here(*finetuning(load, data, tmp_path / 'run', '-e', '1', '--freeze', 'features'))
    assert f'--load {load}, for 10 classes, is replaced by a new one for 10' in output
    assert_frozen(numbers(tmp_path / 'run' / 'model_best.params'), numbers(load), 'features')


@pytest.mark.parametrize('freeze', ['features', 'batchnorm'])
def test_mixed_precision(trained, few_classes, tmp_path, device, freeze):
    if device == 'cpu' and processor.instruction_set().bfloat16 is None:
        pytest.skip('bfloat16 needs AVX-512')
    load = trained / 'model_best.params'
    losses = {}
    for name, options in (('amp', ('--amp',)), ('plain', ())):
        succeed(*finetuning(load, few_classes, tmp_path / name, '--freeze', freeze, *options))
        assert_frozen(numbers(tmp_path / name / 'model_best.params'), numbers(load), freeze)
        losses[name] = read_report(tmp_path / name / 'report.json')['metrics']['train.loss']
    assert losses['amp'] != losses['plain']
    assert losses['amp'] == pytest.approx(losses['plain'], rel=0.05)


def test_frozen_initial_values_are_noted(small_data, tmp_path):
    output = succeed_here(*training(small_data, tmp_path, '-e', '1', '--freeze', 'features'))
    assert '--freeze features without --load: what stays as it is has its initial values' in output


def test_fewer_classes_without_the_option(trained, few_classes, tmp_path):
    load = trained / 'model_best.params'
    output = succeed_here(
        *(part for part in finetuning(load, few_classes, tmp_path, '-e', '1') if part != '--finetune')
    )
    assert f'--load {load} has 10 classes, and the data set 5; to train it for other classes, add --finetune' in output
    assert read_description(tmp_path / 'model_best.params', identify).known['num_classes'] == 10


class TestBadInput:
    """Each mistake is reported in one line, with exit code 2, and nothing is trained."""

    @pytest.fixture
    def finetune(self, trained, few_classes, tmp_path):
        def finetune(*options, data=few_classes, load=trained / 'model_best.params', call=call_here):
            result = call(*finetuning(load, data, tmp_path / 'run', *options))
            assert not list(tmp_path.glob('run/*.params'))
            return result

        return finetune

    @pytest.mark.parametrize('processes', [1, 2])
    @pytest.mark.gpus(2)
    def test_same_classes(self, finetune, trained, small_data, processes):
        result = finetune('-n', processes, '-b', '8', data=small_data, call=call)
        load = trained / 'model_best.params'
        assert_user_error(result, f'--finetune: --load {load} has the same 10 classes; leave out --finetune')

    def test_same_classes_of_imagenet(self, finetune, few_trained, few_classes, tmp_path):
        """A file may have the words for the names of folders, also of synsets that ImageNet does not have."""
        classes = [*IMAGENET_CLASS_FILE.read_text().splitlines()[:4], 'n99000001 unicorn, monoceros']
        data = shutil.copytree(few_classes, tmp_path / 'data')
        (data / 'classes.txt').write_text('\n'.join(name.split()[0] for name in classes))
        load = tmp_path / 'words.params'
        write_arrays(
            load, read_arrays(few_trained), {**read_description(few_trained, identify).known, 'classes': classes}
        )
        assert_user_error(finetune(load=load, data=data), 'has the same 5 classes')

    def test_same_number_of_classes_without_names(self, finetune):
        result = finetune('--num-classes', '10', '--data-backend', 'synthetic')
        assert_user_error(result, 'has the same 10 classes')

    def test_nothing_to_load(self, small_data, tmp_path):
        run = ('./runner', '--finetune', '--data-root', small_data, '--workspace', tmp_path)
        assert_user_error(call_here(*run), '--finetune needs a network to start from: --load NETWORK')

    @pytest.mark.parametrize('mode', ['val', 'pred', 'export'])
    def test_mode_that_does_not_train(self, finetune, mode):
        assert_user_error(finetune('--mode', mode), f'--finetune: --mode {mode} trains nothing; leave out --finetune')

    @pytest.mark.parametrize('processes', [1, 2])
    @pytest.mark.gpus(2)
    def test_another_network(self, finetune, processes):
        result = finetune('-n', processes, '-b', '8', '--num-layers', '18', call=call)
        assert_user_error(result, 'parameters of another network: --num-layers 18 instead of 10')
        assert 'finetune' not in result.stderr

    def test_int8_network(self, finetune, tmp_path, trained, few_classes):
        calibrate = ('./runner', '--mode', 'calibrate', '--load', trained / 'model_best.params', '--device', 'cpu')
        options = ('--data-root', few_classes, '-b', '16', '--calib-images', '16', '--workspace', tmp_path)
        succeed_here(*calibrate, *options, '-o', tmp_path / 'net', '--max-drop', '1')
        assert_user_error(finetune(load=tmp_path / 'net-int8'), 'an int8 network works only with --mode val and pred')

    def test_more_classes_without_the_option(self, few_trained, small_data, tmp_path):
        run = ('./runner', '--load', few_trained, '--data-root', small_data, '--workspace', tmp_path, '-b', '16')
        advice = 'to train it for other classes, add --finetune'
        assert_user_error(call_here(*run), f'--load {few_trained} has 5 classes, and the data set 10; {advice}')
        assert_user_error(call_here(*run, '--num-classes', '10'), f'--num-classes 10 instead of 5; {advice}')

    def test_resumed_with_something_else_frozen(self, few_trained, trained, few_classes):
        run = finetuning(trained / 'model_best.params', few_classes, few_trained.parent, '--freeze', 'batchnorm')
        assert_user_error(call_here(*run), 'run with other options (--freeze batchnorm instead of features)')

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (('--lr-mult-features', '0'), '--lr-mult-features 0: must be more than 0'),
            (('--lr-mult-features', '2'), '--lr-mult-features 2: must be 0 to 1'),
            (('--lr-mult-features', '0.1', '--freeze', 'features'), '--lr-mult-features 0.1: --freeze features leaves'),
        ],
    )
    def test_contradicting_options(self, finetune, options, message):
        assert_user_error(finetune(*options), message)
