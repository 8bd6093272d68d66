"""description.py and trailer.py: what a parameter file says about its network."""

import json

import pytest

from helpers.networks import make_initialized, random_arrays
from imagenet.architectures.identification import identify
from imagenet.checkpoints.description import FileDescription, complete_options, read_description
from imagenet.checkpoints.loading import load_parameters
from imagenet.checkpoints.parameters import canonical_arrays, read_arrays, set_canonical, write_arrays
from imagenet.checkpoints.trailer import ENDING, append_trailer
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

DESCRIPTION = {
    'arch': 'resnetv1',
    'num_layers': 18,
    'num_classes': 10,
    'batchnorm_eps': 1e-5,
    'image_shape': (3, 32, 32),
    'data_val_resize': 36,
    'interpolation': 'cubic',
    'rgb_mean': (1.0, 2.0, 3.0),
    'rgb_std': (4.0, 5.0, 6.0),
}
LEFT_OUT = dict.fromkeys((*DESCRIPTION, 'num_groups'))


@pytest.fixture
def described(tmp_path):
    path = tmp_path / 'net.params'
    write_arrays(path, {'output.weight': mx.nd.ones((10, 4))}, {**DESCRIPTION, 'classes': ['Ω', 'b']})
    return path


def test_description_comes_back(described):
    assert read_description(described, identify).known == {**DESCRIPTION, 'classes': ('Ω', 'b')}


def test_file_of_a_version_without_a_choice_of_filters(tmp_path):
    older = {name: value for name, value in DESCRIPTION.items() if name != 'interpolation'}
    write_arrays(tmp_path / 'net.params', {'output.weight': mx.nd.ones((10, 4))}, older)
    assert read_description(tmp_path / 'net.params', identify).known == {**older, 'interpolation': 'linear'}


def test_other_readers_ignore_the_description(described):
    assert list(read_arrays(described)) == ['output.weight']
    assert list(mx.nd.load_frombuffer(described.read_bytes())) == ['output.weight']
    strict = mx.gluon.ParameterDict()
    strict.get('output.weight', shape=(10, 4))
    strict.load(str(described))
    assert strict['output.weight'].data().sum().asscalar() == 40


def test_file_without_a_description(tmp_path):
    """Names do not tell this package's networks of one depth from each other."""
    write_arrays(tmp_path / 'net.params', {'features.3.0.bn_add_relu.gamma': mx.nd.ones(4)})
    assert read_description(tmp_path / 'net.params', identify) == FileDescription()


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content[: -ENDING.size - 3] + content[-ENDING.size :],
        lambda content: content[: -ENDING.size] + ENDING.pack(1 << 60, b'NETWORK\n'),
        lambda content: content[: -ENDING.size] + ENDING.pack(3, b'NETWORK\n'),
    ],
)
def test_damaged_description(described, damage):
    described.write_bytes(damage(described.read_bytes()))
    with pytest.raises(UserError, match=r'net.params: not a description of a network, because it is not JSON'):
        read_description(described, identify)


@pytest.mark.parametrize('content', [[], 'text', 3, {**DESCRIPTION, 'num_layers': 'x'}, {'arch': 'resnetv1'}])
def test_description_of_another_form(tmp_path, content):
    path = tmp_path / 'net.params'
    write_arrays(path, {'output.weight': mx.nd.ones((10, 4))})
    append_trailer(path, content)
    with pytest.raises(UserError, match='net.params: not a description of a network .*; use another checkpoint$'):
        read_description(path, identify)


def test_what_was_left_out_comes_from_the_file():
    assert complete_options(LEFT_OUT, DESCRIPTION, 'x') == (DESCRIPTION, [])


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('arch', 'resnetv15', '--arch resnetv15 instead of resnetv1'),
        ('num_layers', 50, '--num-layers 50 instead of 18'),
        ('num_classes', 1000, '--num-classes 1000 instead of 10; to train it for other classes, add --finetune'),
        ('batchnorm_eps', 1e-3, '--batchnorm-eps 0.001 instead of 1e-05'),
    ],
)
def test_contradictions_are_refused(name, value, message):
    with pytest.raises(UserError, match=f'^--load x: parameters of another network: {message}$'):
        complete_options({**LEFT_OUT, name: value}, DESCRIPTION, 'x')


def test_finetuning_would_not_help_another_network():
    with pytest.raises(UserError, match=r'--num-layers 50 instead of 18; --num-classes 1000 instead of 10$'):
        complete_options({**LEFT_OUT, 'num_layers': 50, 'num_classes': 1000}, DESCRIPTION, 'x')


def test_images_may_be_prepared_in_another_way():
    options = {**LEFT_OUT, 'image_shape': (4, 64, 64), 'rgb_mean': (0.0, 0.0, 0.0), 'rgb_std': (4.0, 5.0, 6.0)}
    options['interpolation'] = 'linear'
    changes, notes = complete_options(options, DESCRIPTION, 'x')
    assert changes == {name: DESCRIPTION[name] for name in ('arch', 'num_layers', 'num_classes', 'batchnorm_eps')}
    assert notes == [
        'unlike the images that --load x was trained for: --image-shape 4,64,64 instead of 3,32,32; '
        '--interpolation linear instead of cubic; --rgb-mean 0,0,0 instead of 1,2,3'
    ]


def test_fourth_channel_is_no_other_image_shape():
    changes, notes = complete_options({**LEFT_OUT, 'image_shape': (4, 32, 32)}, DESCRIPTION, 'x')
    assert 'image_shape' not in changes
    assert changes['data_val_resize'] == 36
    assert notes == []


@pytest.mark.parametrize('arch', [None, 'xception', 'xception_padded'])
@pytest.mark.parametrize('prefix', ['', '_net.'])
def test_xception_of_the_original(tmp_path, arch, prefix):
    """Its first two convolutions are padded; the names in its files show that it is the original's."""
    padded = make_initialized(arch='xception_padded', image_shape=(3, 64, 64))
    set_canonical(padded, random_arrays(padded))
    names = {name: name for name in canonical_arrays(padded)}
    if not prefix:
        names = {name: name.replace('features.1.', 'features.1.0.') for name in names}
    path = tmp_path / 'original.params'
    write_arrays(path, {prefix + names[name]: array for name, array in canonical_arrays(padded).items()})
    changes, _ = complete_options({**LEFT_OUT, 'arch': arch}, read_description(path, identify).known, path)
    net = make_initialized(arch=changes.get('arch', arch), image_shape=(3, 64, 64))
    load_parameters(net, path)
    images = mx.nd.random.normal(shape=(2, 3, 64, 64))
    assert (net(images) == padded(images)).min().asscalar() == 1


def test_description_is_one_json_document(described):
    content = described.read_bytes()
    length, _ = ENDING.unpack(content[-ENDING.size :])
    assert json.loads(content[-ENDING.size - length : -ENDING.size])['arch'] == 'resnetv1'
