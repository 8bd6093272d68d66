"""parameters.py and loading.py: parameters load exactly as saved, whoever wrote the file; other files are refused."""

import json

import numpy as np
import pytest

from helpers.commands import PROJECT
from helpers.networks import CHANNELS_LAST, NETWORKS, make, random_arrays, random_images
from imagenet.checkpoints import parameters
from imagenet.checkpoints.loading import count_classes, load_parameters
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

ORIGINAL = json.loads((PROJECT / 'tests' / 'data' / 'original_params.json').read_text())


def canonical_from_original(name):
    """Return the canonical name for a name in the original's list for fused operators."""
    return name.replace('_net.', '').replace('features.0.1.weight', 'features.0.weight')


@pytest.fixture
def saved(tmp_path):
    net = make()
    parameters.set_canonical(net, random_arrays(net))
    path = tmp_path / 'net.params'
    parameters.write_arrays(path, parameters.canonical_arrays(net))
    return net, path


def assert_same_logits(net, other, tolerance=1e-6):
    images = random_images()
    np.testing.assert_allclose(net(images).asnumpy(), other(images).asnumpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('key', ORIGINAL['shapes'])
def test_names_and_shapes_are_canonical(key):
    arch, num_layers = key.split('-')
    names = map(canonical_from_original, ORIGINAL['names'][f'{key} conv=NCHW fuse=1 float32'])
    expected = dict(zip(names, ORIGINAL['shapes'][key].values()))
    for settings in ({}, {'device': 'gpu', 'image_shape': (4, 224, 224), **CHANNELS_LAST}):
        net = make(arch=arch, num_layers=int(num_layers), num_classes=1000, **settings)
        shapes = {name: list(shape) for name, shape in parameters.canonical_shapes(net).items()}
        assert shapes == expected
        assert list(shapes) == list(expected)


@pytest.mark.parametrize('list_name', ORIGINAL['names'])
def test_files_of_the_original_load(list_name, tmp_path):
    """Each list of names loads, with arrays in the layout and type that belong to it."""
    network, conv, _, dtype = list_name.split()
    arch, num_layers = network.split('-')
    net = make(arch=arch, num_layers=int(num_layers))
    arrays = {name: array.astype(dtype) for name, array in random_arrays(net).items()}
    parameters.set_canonical(net, arrays)
    if dtype == 'float16':
        # As a GPU run wrote it: four input channels, with arbitrary weights for the fourth.
        weight = arrays[parameters.INPUT_WEIGHT]
        noise = mx.nd.ones((weight.shape[0], 1, *weight.shape[2:]), dtype=dtype)
        arrays[parameters.INPUT_WEIGHT] = mx.nd.concat(weight, noise, dim=1)
    if conv == 'conv=NHWC':
        arrays = {name: a.transpose((0, 2, 3, 1)) if a.ndim == 4 else a for name, a in arrays.items()}
    path = tmp_path / 'original.params'
    mx.nd.save(str(path), dict(zip(ORIGINAL['names'][list_name], arrays.values())))
    assert count_classes(path) == 10
    other = make(arch=arch, num_layers=int(num_layers))
    load_parameters(other, path)
    assert_same_logits(net, other)


def test_every_form_of_list_is_tested():
    forms = {tuple(name.split()[1:]) for name in ORIGINAL['names']}
    assert forms >= {('conv=NCHW', 'fuse=0', 'float32'), ('conv=NHWC', 'fuse=1', 'float16')}


def export(net, folder):
    """Write the pair of files that MXNet's own export writes; return the path of the parameters."""
    net.hybridize()
    net(random_images())
    net.export(str(folder / 'net'), epoch=3)
    return folder / 'net-0003.params'


@pytest.mark.parametrize(('arch', 'num_layers'), NETWORKS)
@pytest.mark.parametrize('fuse', [0, 1])
def test_symbol_and_parameters(arch, num_layers, fuse, tmp_path):
    net = make(arch=arch, num_layers=num_layers, fuse_bn_relu=fuse)
    parameters.set_canonical(net, random_arrays(net))
    other = make(arch=arch, num_layers=num_layers)
    load_parameters(other, export(net, tmp_path))
    assert_same_logits(net, other, 1e-4)


def fuse_additions(symbol_json):
    """Return a symbol as NVIDIA's container build writes it: batch norm, addition and ReLU in one operator.

    This operator's inputs are data, gamma, beta, addend, moving mean and moving variance. The nodes are in the order in
    which they are first reached from the output.
    """
    graph = json.loads(symbol_json)
    nodes = graph['nodes']
    for node in nodes:
        if node['op'] == 'Activation':
            addition = nodes[node['inputs'][0][0]]
            if addition['op'] in ('elemwise_add', 'broadcast_add', '_plus'):
                norm, addend = nodes[addition['inputs'][0][0]], addition['inputs'][1]
                data, gamma, beta, mean, variance = norm['inputs']
                node.update(op='BatchNormAddRelu', inputs=[data, gamma, beta, addend, mean, variance])
    order = []

    def visit(index):
        if index not in order:
            for source, *_ in nodes[index]['inputs']:
                visit(source)
            order.append(index)

    visit(graph['heads'][0][0])
    place = {index: position for position, index in enumerate(order)}
    reordered = [
        {**nodes[index], 'inputs': [[place[source], *rest] for source, *rest in nodes[index]['inputs']]}
        for index in order
    ]
    variables = [position for position, node in enumerate(reordered) if node['op'] == 'null']
    heads = [[place[graph['heads'][0][0]], 0, 0]]
    return json.dumps({**graph, 'nodes': reordered, 'arg_nodes': variables, 'heads': heads})


@pytest.mark.parametrize('num_layers', [18, 50])
def test_symbol_with_operators_of_the_container_build(num_layers, tmp_path):
    """This MXNet does not have these operators, which also change the order of the batch norms."""
    net = make(num_layers=num_layers)
    parameters.set_canonical(net, random_arrays(net))
    path = export(net, tmp_path)
    symbol = tmp_path / 'net-symbol.json'
    fused = fuse_additions(symbol.read_text())
    assert fused.count('BatchNormAddRelu') == {18: 8, 50: 16}[num_layers]
    symbol.write_text(fused)
    other = make(num_layers=num_layers)
    load_parameters(other, path)
    assert_same_logits(net, other)


def test_symbol_of_another_network(tmp_path):
    with pytest.raises(UserError, match=r'another network: \d+ missing .*of another shape'):
        load_parameters(make(num_layers=50), export(make(), tmp_path))
    with pytest.raises(UserError, match=r'net-symbol.json has 115 layers .* give 107'):
        load_parameters(make(num_layers=50), export(make(arch='xception'), tmp_path))


def test_symbol_that_is_missing_or_no_symbol(tmp_path):
    path = export(make(), tmp_path)
    symbol = tmp_path / 'net-symbol.json'
    for content in ('no JSON', '{}', None):
        symbol.write_text(content) if content else symbol.unlink()
        with pytest.raises(UserError, match=r'also need .*net-symbol\.json: (not a symbol|cannot read)'):
            load_parameters(make(), path)


@pytest.mark.parametrize('fuse_bn_relu', [0, 1])
def test_round_trip(saved, fuse_bn_relu):
    net, path = saved
    other = make(fuse_bn_relu=fuse_bn_relu)
    load_parameters(other, path)
    assert_same_logits(net, other, 1e-4)


def test_file_holds_canonical_arrays(tmp_path):
    """The file does not depend on the form of the network in memory."""
    net = make(device='gpu', image_shape=(4, 32, 32), **CHANNELS_LAST)
    expected = random_arrays(net)
    parameters.set_canonical(net, expected)
    parameters.write_arrays(tmp_path / 'net.params', parameters.canonical_arrays(net))
    arrays = mx.nd.load(str(tmp_path / 'net.params'))
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array.asnumpy(), expected[name].asnumpy())


def test_number_of_classes_is_told(saved):
    assert count_classes(saved[1]) == 10


def test_another_depth(saved):
    with pytest.raises(UserError, match=r'another network: \d+ missing \(features.3.*, …\).*of another shape'):
        load_parameters(make(num_layers=50), saved[1])


def test_other_classes(saved):
    shapes = r'2 of another shape \(output.weight \(10, 512\) instead of \(7, 512\), .*'
    with pytest.raises(UserError, match=f'{shapes}; to train it for other classes, add --finetune$'):
        load_parameters(make(num_classes=7), saved[1])


def assert_loaded_without_output(net, before, expected):
    for name, array in parameters.canonical_arrays(net).items():
        source = before if name.startswith('output.') else expected
        np.testing.assert_array_equal(array.asnumpy(), source[name].asnumpy(), err_msg=name)


@pytest.mark.parametrize('num_classes', [7, 10])
def test_everything_but_the_output_layer(saved, num_classes):
    net = make(num_classes=num_classes)
    before = random_arrays(net, seed=1)
    parameters.set_canonical(net, before)
    load_parameters(net, saved[1], with_output=False)
    assert_loaded_without_output(net, before, parameters.canonical_arrays(saved[0]))


def test_symbol_without_its_output_layer(tmp_path):
    source, net = make(), make(num_classes=7)
    parameters.set_canonical(source, random_arrays(source))
    before = parameters.canonical_arrays(net)
    load_parameters(net, export(source, tmp_path), with_output=False)
    assert_loaded_without_output(net, before, parameters.canonical_arrays(source))


def test_channels_last_without_the_output_layer(saved, tmp_path):
    """The layout is found although the output layer does not fit."""
    arrays = {name: a.transpose((0, 2, 3, 1)) if a.ndim == 4 else a for name, a in random_arrays(saved[0]).items()}
    mx.nd.save(str(tmp_path / 'nhwc.params'), arrays)
    net = make(num_classes=7)
    before = parameters.canonical_arrays(net)
    load_parameters(net, tmp_path / 'nhwc.params', with_output=False)
    assert_loaded_without_output(net, before, random_arrays(saved[0]))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'output.weight': (10, 64)}, r'1 of another shape \(output.weight \(10, 64\) instead of \(10, 512\)\)$'),
        ({'features.0.weight': (64, 3, 3, 3)}, r'1 of another shape \(features.0.weight'),
        ({'output.bias': None}, r'1 missing \(output.bias\)$'),
        ({'features.1.gamma': None}, r'1 missing \(features.1.gamma\)$'),
    ],
)
def test_everything_else_must_fit(saved, tmp_path, change, message):
    arrays = mx.nd.load(str(saved[1]))
    for name, shape in change.items():
        arrays[name] = mx.nd.zeros(shape) if shape else None
    arrays = {name: array for name, array in arrays.items() if array is not None}
    mx.nd.save(str(tmp_path / 'other.params'), arrays)
    with pytest.raises(UserError, match=message):
        load_parameters(make(num_classes=7), tmp_path / 'other.params', with_output=False)


def test_parameters_left_over(saved, tmp_path):
    arrays = {**mx.nd.load(str(saved[1])), 'features.9.weight': mx.nd.zeros(1)}
    mx.nd.save(str(tmp_path / 'more.params'), arrays)
    with pytest.raises(UserError, match=r'1 unexpected \(features.9.weight\)'):
        load_parameters(make(), tmp_path / 'more.params')


@pytest.mark.parametrize('content', [b'', b'{"text": "file"}', bytes(100)])
def test_not_a_parameter_file(tmp_path, content):
    path = tmp_path / 'net.params'
    path.write_bytes(content)
    with pytest.raises(UserError, match='not an MXNet parameter file'):
        parameters.read_arrays(path)


def test_truncated_file(saved):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:10000])
    with pytest.raises(UserError, match='is damaged'):
        parameters.read_arrays(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match='No such file'):
        parameters.read_arrays(tmp_path / 'none.params')
    with pytest.raises(UserError, match='Is a directory'):
        parameters.read_arrays(tmp_path)


def test_names_without_a_dot(tmp_path):
    mx.nd.save(str(tmp_path / 'net.params'), {'resnetv10_conv0_weight': mx.nd.zeros((64, 3, 7, 7))})
    with pytest.raises(
        UserError, match=r"of no package that this one knows \(MXNet's model zoo .*, with prefixes: 0 of 1"
    ):
        load_parameters(make(), tmp_path / 'net.params')


def test_first_weight_of_another_rank(saved, tmp_path):
    arrays = {**mx.nd.load(str(saved[1])), parameters.INPUT_WEIGHT: mx.nd.zeros(5)}
    mx.nd.save(str(tmp_path / 'other.params'), arrays)
    with pytest.raises(UserError, match=r'1 of another shape \(features.0.weight \(5,\) instead of'):
        load_parameters(make(), tmp_path / 'other.params')
