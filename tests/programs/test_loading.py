"""`--load`: a file describes its network, so that a user need not."""

import shutil

import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed_here
from imagenet.checkpoints.parameters import read_arrays, write_arrays
from imagenet.reporting.report_file import read_report
from imagenet.runtime.compat import mx

# Run in one pytest worker, so that shared fixtures are made only once.
pytestmark = pytest.mark.xdist_group('export')


def validate(load, data, workspace, *options):
    """Validate a network; return the metrics, without times, and the output."""
    command = ('./runner', '--mode', 'val', '--load', load, '--data-root', data, '--workspace', workspace, '-b', '16')
    output = succeed_here(*command, *options)
    metrics = read_report(workspace / 'report.json')['metrics']
    return {name: metrics[name] for name in ('val.loss', 'val.top1', 'val.top5')}, output


@pytest.fixture
def undescribed(trained, tmp_path):
    """The trained network in a file without a description, as earlier versions wrote it."""
    write_arrays(tmp_path / 'old.params', read_arrays(trained / 'model_best.params'))
    return tmp_path / 'old.params'


def test_file_describes_its_network(trained, small_data, tmp_path):
    best = trained / 'model_best.params'
    found, output = validate(best, small_data, tmp_path)
    assert found == validate(best, small_data, tmp_path, *SMALL)[0]
    assert 'val on 1 x 1 cpu, resnetv15-10, float32' in output
    assert 'assuming' not in output


def test_file_knows_the_names_of_its_classes(trained, small_tree, tmp_path):
    load = shutil.copy(trained / 'model_best.params', tmp_path)
    image = min((small_tree / 'val' / '3_three').iterdir())
    shown = succeed_here('./runner', '--mode', 'pred', '--load', load, '--data-pred', image)
    assert {line.split()[-1] for line in shown.splitlines()} == {path.name for path in (small_tree / 'val').iterdir()}


@pytest.mark.parametrize(
    ('option', 'value', 'found'),
    [('--arch', 'xception', 'resnetv15'), ('--num-layers', '50', '10'), ('--num-classes', '1000', '10')],
)
def test_another_network_is_refused(trained, small_data, tmp_path, option, value, found):
    best = trained / 'model_best.params'
    result = call_here('./runner', '--mode', 'val', '--load', best, '--data-root', small_data, option, value)
    assert_user_error(result, f'--load {best}: parameters of another network: {option} {value} instead of {found}')


def test_file_without_a_description(undescribed, trained, small_data, tmp_path):
    found, output = validate(undescribed, small_data, tmp_path, *SMALL)
    assert f'--load {undescribed} does not describe its network: assuming resnetv15-10' in output
    assert found == validate(trained / 'model_best.params', small_data, tmp_path)[0]


@pytest.fixture
def model_zoo(tmp_path):
    """A file of MXNet's model zoo, of a network of ten classes."""
    net = mx.gluon.model_zoo.vision.resnet18_v1(classes=10)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.save_parameters(str(tmp_path / 'resnet18_v1.params'))
    return tmp_path / 'resnet18_v1.params'


def test_file_of_another_package(model_zoo, small_data, tmp_path):
    size = ('--image-shape', '3,32,32', '--data-val-resize', '32')
    _, output = validate(model_zoo, small_data, tmp_path, *size)
    assert f"--load {model_zoo}: a network of MXNet's model zoo or GluonCV: resnetv1-18" in output
    # Of basic blocks, both are the same network.
    found, _ = validate(model_zoo, small_data, tmp_path, *size, '--arch', 'resnetv15')
    assert found == validate(model_zoo, small_data, tmp_path, *size, '--arch', 'resnetv1', '--num-layers', '18')[0]


def test_file_of_another_package_for_another_network(model_zoo, small_data):
    command = ('./runner', '--mode', 'val', '--load', model_zoo, '--data-root', small_data)
    message = 'parameters of another network: --arch resnextv15 instead of resnetv1; --num-layers 50 instead of 18'
    assert_user_error(
        call_here(*command, '--arch', 'resnextv15', '--num-layers', '50'), f'--load {model_zoo}: {message}'
    )


def test_data_set_with_other_classes(trained, small_data, tmp_path):
    """In another order of the classes, the accuracy would be wrong, and training would begin with the wrong ones."""
    data = shutil.copytree(small_data, tmp_path / 'data')
    names = (data / 'classes.txt').read_text().splitlines()
    (data / 'classes.txt').write_text('\n'.join([names[0], *reversed(names[1:])]) + '\n')
    best = trained / 'model_best.params'
    command = ('./runner', '--load', best, '--data-root', data, '--workspace', tmp_path / 'run')
    said = f'--load {best}: its class 1 is {names[1]}, and {names[-1]} in the data set; '
    assert_user_error(call_here(*command, '--mode', 'val'), f'{said}use the data set that it was trained with')
    assert_user_error(call_here(*command), f'{said}to train it for other classes, add --finetune')
    assert not (tmp_path / 'run').exists()


def test_other_images_are_noted(trained, small_data, tmp_path):
    _, output = validate(trained / 'model_best.params', small_data, tmp_path, '--image-shape', '3,40,40')
    assert 'was trained for: --image-shape 3,40,40 instead of 3,32,32' in output


def test_crop_fraction_of_the_loaded_shape(trained, small_data, tmp_path):
    _, output = validate(trained / 'model_best.params', small_data, tmp_path, '--crop-fraction', '0.8')
    assert 'was trained for: --data-val-resize 40 instead of 32' in output


def test_validation_of_random_weights_is_noted(tmp_path):
    command = ('./runner', '--mode', 'val', *SMALL, '--data-backend', 'synthetic', '--num-classes', '10')
    output = succeed_here(*command, '--benchmark-iters', '1', '--workspace', tmp_path)
    assert 'without --load, the network has random weights: only its speed is meaningful' in output
