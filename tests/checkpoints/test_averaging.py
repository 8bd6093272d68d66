"""averaging.py: the average of networks is the mean of each array; files that have no average are refused."""

import numpy as np
import pytest

from helpers.networks import make, make_initialized, random_arrays
from imagenet.checkpoints.averaging import average_networks
from imagenet.checkpoints.parameters import canonical_arrays, read_arrays, write_arrays
from imagenet.checkpoints.trailer import append_trailer
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

DESCRIPTION = {
    'arch': 'efficientnet_b0',
    'num_classes': 3,
    'padding': 'symmetric',
    'batchnorm_eps': 1e-3,
    'image_shape': [3, 32, 32],
    'data_val_resize': 36,
    'interpolation': 'linear',
    'rgb_mean': [1.0, 2.0, 3.0],
    'rgb_std': [4.0, 5.0, 6.0],
    'classes': ['cat', 'dog', 'Ω'],
}
WITHOUT_INTERPOLATION = {name: value for name, value in DESCRIPTION.items() if name != 'interpolation'}


def arrays_of(path):
    return {name: array.asnumpy() for name, array in read_arrays(path).items()}


def average(*paths):
    """Return the average as NumPy arrays by name, the description, and what is announced."""
    lines = []
    arrays, description = average_networks(paths, lines.append)
    return {name: array.asnumpy() for name, array in arrays.items()}, description, lines


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    """Parameter files of three networks of the same architecture."""
    net, folder = make(arch='resnetv1d'), tmp_path_factory.mktemp('networks')
    paths = [folder / f'{name}.params' for name in 'abc']
    for seed, path in enumerate(paths):
        write_arrays(path, random_arrays(net, seed))
    return paths


@pytest.mark.parametrize('count', [2, 3])
def test_average_is_the_mean(networks, count):
    """Bit for bit, also of running statistics."""
    chosen = networks[:count]
    found, description, lines = average(*chosen)
    files = [arrays_of(path) for path in chosen]
    assert (list(found), description, lines) == (list(files[0]), None, [])
    assert any(name.endswith('running_var') for name in found)
    for name, array in found.items():
        mean = np.mean([arrays[name].astype(np.float64) for arrays in files], axis=0).astype(np.float32)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, mean, err_msg=name)


@pytest.mark.parametrize('count', [2, 3, 7])
def test_average_of_a_network_with_itself(tmp_path, count):
    """Has the same bytes, also for the extremes of float32 and the sign of 0."""
    extremes = np.array([0, -0.0, 1e-45, -1e-45, np.finfo(np.float32).max, np.finfo(np.float32).min, 0.1, 1 / 3])
    path = tmp_path / 'net.params'
    random = np.random.RandomState(1).standard_normal(10000)
    write_arrays(path, {'extremes': mx.nd.array(extremes), 'random': mx.nd.array(random)})
    found, _, _ = average(*[path] * count)
    for name, array in arrays_of(path).items():
        assert found[name].tobytes() == array.tobytes(), name


def described(folder, name, content):
    path = folder / f'{name}.params'
    write_arrays(path, {'output.weight': mx.nd.ones((3, 4))}, content)
    return path


def test_description_is_that_of_the_first(tmp_path):
    silent, first = described(tmp_path, 'silent', None), described(tmp_path, 'first', WITHOUT_INTERPOLATION)
    other = described(tmp_path, 'other', {**DESCRIPTION, 'num_groups': 32})
    _, description, lines = average(silent, first, other)
    assert description == WITHOUT_INTERPOLATION
    assert lines == [f'{silent} does not describe its network: assuming that it is the one of {first}']


def test_words_of_a_class_are_no_contradiction(tmp_path):
    with_words, without = ['n01440764 tench, Tinca tinca', 'dog', 'Ω'], ['n01440764', 'dog', 'Ω']
    first, other = (
        described(tmp_path, name, {**DESCRIPTION, 'classes': classes})
        for name, classes in (('first', with_words), ('other', without))
    )
    assert average(first, other)[1]['classes'] == with_words


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'arch': 'efficientnet_lite0'}, '--arch efficientnet_lite0 instead of efficientnet_b0'),
        ({'num_classes': 4}, '--num-classes 4 instead of 3'),
        ({'padding': 'same'}, '--padding same instead of symmetric'),
        ({'batchnorm_eps': 1e-5}, '--batchnorm-eps 1e-05 instead of 0.001'),
        ({'image_shape': [3, 64, 64]}, '--image-shape 3,64,64 instead of 3,32,32'),
        ({'interpolation': 'cubic'}, '--interpolation cubic instead of linear'),
        ({'rgb_mean': [0, 0, 0.5]}, '--rgb-mean 0,0,0.5 instead of 1,2,3'),
        ({'classes': ['cat', 'Ω', 'dog']}, 'class 1 Ω instead of dog; class 2 dog instead of Ω'),
        (
            {'arch': 'x', 'padding': 'same', 'classes': ['a', 'b', 'c']},
            '--arch x instead of efficientnet_b0; --padding same instead of symmetric; class 0 a instead of cat; '
            'and 2 more',
        ),
    ],
)
def test_descriptions_that_contradict(tmp_path, changes, message):
    first, other = described(tmp_path, 'first', WITHOUT_INTERPOLATION), {**DESCRIPTION, **changes}
    path = described(tmp_path, 'other', other)
    with pytest.raises(UserError) as raised:
        average(first, described(tmp_path, 'same', DESCRIPTION), path)
    assert str(raised.value) == f'{path}: of another network than {first}: {message}'


def test_parameters_of_another_network(networks, tmp_path):
    path = tmp_path / 'other.params'
    write_arrays(path, canonical_arrays(make_initialized(arch='resnetv1c', num_classes=12)))
    with pytest.raises(UserError) as raised:
        average(*networks[:2], path)
    assert str(raised.value) == (
        f'{path}: parameters of another network than {networks[0]}: '
        '15 missing (features.8.0.downsample.1.weight, features.8.0.downsample.2.gamma, '
        'features.8.0.downsample.2.beta, …); '
        '15 unexpected (features.8.0.downsample.0.weight, features.8.0.downsample.1.gamma, '
        'features.8.0.downsample.1.beta, …); '
        '2 of another shape (output.weight (12, 512) instead of (10, 512), output.bias (12,) instead of (10,))'
    )


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_values_without_a_mean(networks, tmp_path, value):
    arrays = read_arrays(networks[0])
    arrays['features.1.running_var'][3] = value
    write_arrays(tmp_path / 'net.params', arrays)
    with pytest.raises(UserError, match=r'net.params: features.1.running_var has NaN or infinite values; leave'):
        average(networks[1], tmp_path / 'net.params')


@pytest.mark.parametrize(
    ('name', 'dtype'), [('arg:conv0_weight', 'float32'), ('_net.output.weight', 'float32'), ('output.weight', 'int8')]
)
def test_arrays_of_other_programs(tmp_path, name, dtype):
    path = tmp_path / 'net.params'
    write_arrays(path, {name: mx.nd.ones(3, dtype=dtype)})
    with pytest.raises(UserError, match=rf'net.params: {name} \({dtype}\) is not from a checkpoint'):
        average(path, path)


def test_files_that_cannot_be_read(networks, tmp_path):
    damaged, no_json, missing = (tmp_path / f'{name}.params' for name in ('damaged', 'no_json', 'missing'))
    content = networks[0].read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    no_json.write_bytes(content)
    append_trailer(no_json, {'arch': 3})
    for path, message in (
        (missing, 'cannot read this file (No such file or directory)'),
        (tmp_path, 'cannot read this file (Is a directory)'),
        (damaged, 'this parameter file is damaged'),
        (no_json, 'not a description of a network'),
    ):
        with pytest.raises(UserError) as raised:
            average(networks[0], path)
        assert str(raised.value).startswith(f'{path}: {message}')


def test_too_few_files(networks):
    with pytest.raises(UserError, match='a.params: an average needs at least 2 files$'):
        average(networks[0])
