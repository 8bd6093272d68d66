"""transfer.py: what training leaves as it is, and how fast the rest changes."""

import numpy as np
import pytest

from helpers.networks import make, make_initialized, random_arrays
from helpers.training import BATCH, make_args, make_step
from imagenet.checkpoints.parameters import canonical_arrays, named_parameters, set_canonical
from imagenet.checkpoints.training_state import snapshot
from imagenet.common.errors import UserError
from imagenet.common.options import pick
from imagenet.runtime.compat import mx
from imagenet.training.transfer import FROZEN, TransferOptions

EVERYTHING = {'mixup': 0.2, 'ema_decay': 0.9, 'grad_clip_norm': 1.0, 'wd': 0.1, 'optimizer': 'adam'}
NORM_LEAVES = ('gamma', 'beta', 'running_mean', 'running_var')


def is_frozen(name, freeze):
    """Return whether --freeze leaves a parameter as it is, by its canonical name."""
    in_features = name.startswith('features.')
    return {'none': False, 'features': in_features, 'batchnorm': name.endswith(NORM_LEAVES)}[freeze]


def make_net(**settings):
    """Return a network with random values in every parameter; its running statistics are not those of its images."""
    net = make(**{'num_layers': 10, **settings})
    set_canonical(net, random_arrays(net))
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def batch_of(begin=0, end=BATCH, seed=5, device=None):
    random = np.random.RandomState(seed)
    images = random.standard_normal((BATCH, 3, 32, 32)).astype(np.float32)[begin:end]
    labels, device = random.randint(0, 10, BATCH)[begin:end], device or mx.cpu()
    return mx.io.DataBatch([mx.nd.array(images, ctx=device)], [mx.nd.array(labels, ctx=device)], pad=0)


def arrays_of(net):
    mx.nd.waitall()
    return {name: array.asnumpy() for name, array in canonical_arrays(net).items()}


def changed_names(before, after):
    return {name for name in before if (before[name] != after[name]).any()}


def change_of(net, learning_rate=0.1, **options):
    """Return the change of each parameter in an update."""
    before = arrays_of(net)
    make_step(make_args(**options), net, [mx.cpu()])([batch_of()], learning_rate, 0, 0)
    return {name: array - before[name] for name, array in arrays_of(net).items()}


@pytest.mark.parametrize('fuse', [0, 1])
@pytest.mark.parametrize('freeze', FROZEN)
def test_frozen_parameters_stay_as_they_are(freeze, fuse):
    """They have no gradients, no state of the optimizer and no average; everything else changes."""
    net = make_net(freeze=freeze, fuse_bn_relu=fuse)
    step = make_step(make_args(freeze=freeze, **EVERYTHING), net, [mx.cpu()])
    before = arrays_of(net)
    for iteration in range(2):
        step([batch_of(seed=iteration)], 0.01, 0, iteration)
    frozen = {name for name in before if is_frozen(name, freeze)}
    assert changed_names(before, arrays_of(net)) == set(before) - frozen
    state = snapshot(net, step)
    assert {name.split(':')[0] for name in state['optimizer']} == {
        name for name in set(before) - frozen if 'running' not in name
    }
    assert list(state['average']) == list(before)
    average = {name: array.asnumpy() for name, array in state['average'].items()}
    assert changed_names(before, average) == set(before) - frozen
    for name, param in named_parameters(net).items():
        assert (param._grad is None) == (name in frozen or 'running' in name)


@pytest.mark.parametrize('arch', ['resnetv15', 'efficientnet_lite0'])
@pytest.mark.parametrize('freeze', ['features', 'batchnorm'])
def test_training_computes_what_prediction_does(freeze, arch):
    """Frozen batch norm uses its running statistics; drop-connect in frozen features is off."""
    drop_connect = 0.5 if freeze == 'features' else 0
    net = make_net(arch=arch, freeze=freeze, drop_connect=drop_connect, dropout=0, fuse_bn_relu=1)
    args = make_args(freeze=freeze, drop_connect=drop_connect, no_metrics=True, label_smoothing=0)
    batch = batch_of()
    logits = net(batch.data[0]).asnumpy()
    (losses,) = make_step(args, net, [mx.cpu()])([batch], 0.1, 0, 0)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -log_probabilities[np.arange(BATCH), batch.label[0].asnumpy().astype(int)]
    np.testing.assert_allclose(losses.asnumpy(), expected, rtol=1e-3, atol=1e-4)


def test_frozen_features_are_not_recorded():
    """So they keep nothing for a backward pass."""
    net, found = make_net(), []
    net.features.register_forward_hook(lambda *_: found.append((mx.autograd.is_recording(), mx.autograd.is_training())))
    make_step(make_args(freeze='features'), net, [mx.cpu()])([batch_of()], 0.1, 0, 0)
    assert found == [(False, False)]


def test_dropout_before_the_output_layer_stays_active():
    settings = {'freeze': 'features', 'dropout': 0.5}
    (losses,), (again,), (other,) = (
        make_step(make_args(no_metrics=True, **settings), make_net(**settings), [mx.cpu()])([batch_of()], 0.1, 0, at)
        for at in (0, 0, 1)
    )
    assert (losses == again).min().asscalar() == 1
    assert not np.allclose(losses.asnumpy(), other.asnumpy())


def test_output_layer_learns_the_same_with_frozen_features():
    """Behind the same features, its update is the same, whether or not they train."""
    with_features = change_of(make_net(freeze='batchnorm'), freeze='batchnorm')
    alone = change_of(make_net(), freeze='features')
    for name in ('output.weight', 'output.bias'):
        np.testing.assert_allclose(alone[name], with_features[name], rtol=1e-4, atol=1e-6)
        assert np.abs(alone[name]).max() > 1e-3


def test_fused_batch_norm_is_frozen_like_a_separate_one():
    nets = [make_net(freeze='batchnorm', fuse_bn_relu=fuse) for fuse in (0, 1)]
    separate, fused = (change_of(net, freeze='batchnorm', wd=0) for net in nets)
    for name, change in separate.items():
        np.testing.assert_allclose(fused[name], change, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize('freeze', ['features', 'batchnorm'])
def test_accumulation_updates_as_the_whole_batch(freeze):
    whole = change_of(make_net(freeze=freeze), freeze=freeze, grad_clip_norm=0.5)
    net = make_net(freeze=freeze)
    before = arrays_of(net)
    options = {'batch_size': BATCH // 4, 'grad_accum_steps': 4, 'grad_clip_norm': 0.5}
    step = make_step(make_args(freeze=freeze, **options), net, [mx.cpu()])
    for part in range(4):
        step([batch_of(part * BATCH // 4, (part + 1) * BATCH // 4)], 0.1, 0, part)
    for name, array in arrays_of(net).items():
        np.testing.assert_allclose(array - before[name], whole[name], rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('freeze', ['features', 'batchnorm'])
def test_two_devices_update_as_one(freeze):
    whole = change_of(make_net(freeze=freeze), freeze=freeze)
    net, devices, half = make_net(freeze=freeze), [mx.cpu(0), mx.cpu(1)], BATCH // 2
    net.collect_params().reset_ctx(devices)
    before = arrays_of(net)
    step = make_step(make_args(freeze=freeze), net, devices)
    step([batch_of(0, half, device=devices[0]), batch_of(half, BATCH, device=devices[1])], 0.1, 0, 0)
    for name, array in arrays_of(net).items():
        np.testing.assert_allclose(array - before[name], whole[name], rtol=1e-3, atol=1e-6, err_msg=name)
    for param in net.collect_params().values():
        first, second = (array.asnumpy() for array in param.list_data())
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize('freeze', ['none', 'batchnorm'])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_learning_rate_of_the_features(freeze, dtype):
    """With a gradient of 1, the change is the learning rate; float16 has float32 master weights."""
    net = make_initialized(num_layers=10, freeze=freeze)
    net.cast(dtype)
    args = make_args(freeze=freeze, lr_mult_features=0.1, dtype=dtype, mom=0.0, wd=0.0)
    step = make_step(args, net, [mx.cpu()])
    before = arrays_of(net)
    with mx.autograd.record():
        values = [param.data() * 1 for param in step.trainer._params if param.grad_req != 'null']
    mx.autograd.backward(values)
    step.trainer.set_learning_rate(0.5)
    step.trainer.update(1)
    for name, array in arrays_of(net).items():
        is_trained = 'running' not in name and not is_frozen(name, freeze)
        expected = is_trained * (0.05 if name.startswith('features.') else 0.5)
        np.testing.assert_allclose(before[name] - array, expected, rtol=2e-2, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'lr_mult_features': 0.0}, r'--lr-mult-features 0: must be more than 0; .* use --freeze features'),
        ({'lr_mult_features': 0.1, 'freeze': 'features'}, r'--lr-mult-features 0.1: --freeze features leaves them'),
    ],
)
def test_contradicting_options(changes, message):
    with pytest.raises(UserError, match=message):
        pick(TransferOptions, make_args(**changes))
