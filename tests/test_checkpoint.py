"""checkpoint.py: what is saved is what is loaded, and nothing else is."""

import pytest

import checkpoint
import models
from compat import mx
from errors import UserError


def make(**settings):
    net = models.get_model(**{'num_layers': 18, 'num_classes': 10, **settings})
    models.initialize(net, [mx.cpu()])
    return net


@pytest.fixture
def saved(tmp_path):
    net = make()
    path = tmp_path / 'net.params'
    checkpoint.save_parameters(net, path)
    return net, path


@pytest.mark.parametrize('fuse_bn_relu', [0, 1])
def test_round_trip(saved, fuse_bn_relu):
    net, path = saved
    images = mx.nd.random.normal(shape=(2, 3, 32, 32))
    other = make(fuse_bn_relu=fuse_bn_relu)
    assert not (net(images) == other(images)).asnumpy().all()
    checkpoint.load_parameters(other, path)
    assert (net(images) - other(images)).abs().max().asscalar() < 1e-5


def test_file_holds_canonical_arrays(saved):
    net, path = saved
    arrays = mx.nd.load(str(path))
    assert set(arrays) == set(checkpoint.named_parameters(net))
    assert arrays['features.0.weight'].shape == (64, 3, 7, 7)
    assert {str(array.dtype) for array in arrays.values()} == {"<class 'numpy.float32'>"}


def test_number_of_classes_is_told(saved):
    assert checkpoint.count_classes(saved[1]) == 10


def test_another_depth(saved):
    with pytest.raises(UserError, match=r'another network: \d+ missing \(features.3.*, …\).*of another shape'):
        checkpoint.load_parameters(make(num_layers=50), saved[1])


def test_other_classes(saved):
    with pytest.raises(UserError, match=r'2 of another shape \(output.weight \(10, 512\) instead of \(7, 512\), '):
        checkpoint.load_parameters(make(num_classes=7), saved[1])


def test_parameters_left_over(saved, tmp_path):
    arrays = {**mx.nd.load(str(saved[1])), 'features.9.weight': mx.nd.zeros(1)}
    mx.nd.save(str(tmp_path / 'more.params'), arrays)
    with pytest.raises(UserError, match=r'1 left over \(features.9.weight\)'):
        checkpoint.load_parameters(make(), tmp_path / 'more.params')


@pytest.mark.parametrize('content', [b'', b'{"text": "file"}', bytes(100)])
def test_not_a_parameter_file(tmp_path, content):
    path = tmp_path / 'net.params'
    path.write_bytes(content)
    with pytest.raises(UserError, match='not an MXNet parameter file'):
        checkpoint.read_arrays(path)


def test_truncated_file(saved):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:10000])
    with pytest.raises(UserError, match='is damaged'):
        checkpoint.read_arrays(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match='No such file'):
        checkpoint.read_arrays(tmp_path / 'none.params')
    with pytest.raises(UserError, match='Is a directory'):
        checkpoint.read_arrays(tmp_path)


@pytest.mark.parametrize(
    ('frequency', 'expected'),
    [
        (-1, ['m_best.params']),
        (0, []),
        (2, ['m_0002.params', 'm_0004.params', 'm_best.params']),
    ],
)
def test_save_frequency(tmp_path, frequency, expected):
    writer = checkpoint.CheckpointWriter(tmp_path, 'm', frequency)
    net = make()
    written = [
        writer.epoch_end(net, epoch, epoch == 5, top1) for epoch, top1 in enumerate([0.5, 0.7, 0.6, 0.7, 0.1], 1)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    if frequency == -1:
        assert [len(paths) for paths in written] == [1, 1, 0, 0, 0]


def test_run_without_validation_keeps_its_last_network(tmp_path):
    writer = checkpoint.CheckpointWriter(tmp_path, 'm', -1)
    net = make()
    for epoch in (1, 2):
        writer.epoch_end(net, epoch, epoch == 2, None)
    assert [path.name for path in tmp_path.iterdir()] == ['m_0002.params']
