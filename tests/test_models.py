"""models.py and layers.py: the networks, their parameters and their numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

import checkpoint
import models
from compat import mx
from errors import UserError

CANONICAL = json.loads((Path(__file__).parent / 'data' / 'canonical_parameters.json').read_text())


def make(**settings):
    net = models.get_model(**{'num_layers': 18, 'num_classes': 10, **settings})
    models.initialize(net, [mx.cpu()])
    return net


def copy_parameters(source, target):
    targets = checkpoint.named_parameters(target)
    for name, param in checkpoint.named_parameters(source).items():
        targets[name].set_data(param.data())


@pytest.mark.parametrize(
    ('num_layers', 'count'), [(18, 11689512), (34, 21797672), (50, 25557032), (101, 44549160), (152, 60192808)]
)
def test_trainable_parameters(num_layers, count):
    net = models.get_model(num_layers, 1000)
    trainable = (param for param in net.collect_params().values() if param.grad_req != 'null')
    assert sum(int(np.prod(param.shape)) for param in trainable) == count


@pytest.mark.parametrize('fuse_bn_relu', [0, 1])
@pytest.mark.parametrize('num_layers', [18, 50])
def test_parameters_have_their_canonical_names_and_shapes(num_layers, fuse_bn_relu):
    params = checkpoint.named_parameters(models.get_model(num_layers, 1000, fuse_bn_relu=fuse_bn_relu))
    assert {name: list(param.shape) for name, param in params.items()} == CANONICAL[f'resnetv15-{num_layers}']


def test_logits_are_float32_of_every_class():
    logits = make(num_classes=7)(mx.nd.ones((2, 3, 64, 48)))
    assert logits.shape == (2, 7)
    assert logits.dtype == np.float32


def test_network_takes_a_symbol():
    net = make(num_layers=50, num_classes=5)
    _, shapes, _ = net(mx.sym.var('data')).infer_shape(data=(4, 3, 224, 224))
    assert shapes == [(4, 5)]


def test_fused_and_separate_operators_train_alike():
    images, labels = mx.nd.random.normal(shape=(8, 3, 32, 32)), mx.nd.arange(8)
    results = []
    plain, fused = make(), make(fuse_bn_relu=1)
    copy_parameters(plain, fused)
    for net in (plain, fused):
        net.hybridize()
        trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.1})
        with mx.autograd.record():
            loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels)
        loss.backward()
        trainer.step(8)
        values = {name: param.data().asnumpy() for name, param in checkpoint.named_parameters(net).items()}
        results.append((loss.asnumpy(), values))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    for name, value in results[0][1].items():
        np.testing.assert_allclose(value, results[1][1][name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_fused_network_has_fused_operators():
    operators = json.loads(make(fuse_bn_relu=1)(mx.sym.var('data')).tojson())['nodes']
    assert sum(node['op'] == '_contrib_BatchNormWithReLU' for node in operators) == 9


def test_initial_values_follow_the_recipe():
    net = make(num_layers=50, num_classes=1000)
    values = {name: param.data().asnumpy() for name, param in checkpoint.named_parameters(net).items()}
    for name, value in values.items():
        if name.endswith('running_var'):
            assert (value == 1).all()
        elif name.endswith(('beta', 'bias', 'running_mean')):
            assert (value == 0).all()
        elif name.endswith('gamma'):
            assert (value == (0 if 'bn_add_relu' in name else 1)).all()
        else:
            fan_in = np.prod(value.shape[1:])
            assert value.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.05), name
            assert abs(value.mean()) < 0.1 * value.std()


def test_stride_is_on_the_3x3_convolution():
    net = make(num_layers=50)
    body = net.features[4][0].body
    assert [body[index]._kwargs['stride'] for index in (0, 2, 4)] == [(1, 1), (2, 2), (1, 1)]


def test_batch_norm_options_reach_every_layer():
    nodes = json.loads(make(batchnorm_eps=1e-3, batchnorm_mom=0.5)(mx.sym.var('data')).tojson())['nodes']
    settings = [node['attrs'] for node in nodes if node['op'] == 'BatchNorm']
    assert len(settings) == 20
    assert {(float(attrs['eps']), float(attrs['momentum'])) for attrs in settings} == {(1e-3, 0.5)}


def test_unknown_depth():
    with pytest.raises(UserError, match='--num-layers 42: there are 18, 34, 50, 101, 152'):
        models.get_model(42, 10)


def test_no_classes():
    with pytest.raises(UserError, match='--num-classes 0'):
        models.get_model(18, 0)
