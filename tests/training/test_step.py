"""step.py: what one step does to the parameters."""

import numpy as np
import pytest

from helpers.networks import make_initialized, random_arrays
from helpers.training import BATCH, freeze_batch_norm, make_args, make_step
from imagenet.checkpoints.parameters import canonical_arrays, named_parameters, set_canonical
from imagenet.runtime.compat import mx
from imagenet.training.ema import ParameterEMA
from imagenet.training.loss_scaling import DynamicLossScaling


def make_net(devices=None):
    """Return a network with frozen batch norm, so that the parts of a batch do not affect each other."""
    net = make_initialized()
    net.collect_params().reset_ctx(devices or [mx.cpu()])
    for name, param in net.collect_params().items():
        if name.endswith(('gamma', 'beta')):
            param.lr_mult = 1.0
    freeze_batch_norm(net)
    set_canonical(net, random_arrays(net))
    return net


def batch_of(begin, end, device=None):
    random = np.random.RandomState(5)
    images = random.standard_normal((BATCH, 3, 32, 32)).astype(np.float32)[begin:end]
    labels = random.randint(0, 10, BATCH)[begin:end]
    device = device or mx.cpu()
    return mx.io.DataBatch(data=[mx.nd.array(images, ctx=device)], label=[mx.nd.array(labels, ctx=device)], pad=0)


def arrays_after(net):
    mx.nd.waitall()
    return {name: array.asnumpy() for name, array in canonical_arrays(net).items()}


def one_update(**changes):
    """Return the parameters before and after an update with the complete batch on one device."""
    net = make_net()
    before = arrays_after(net)
    make_step(make_args(**changes), net, [mx.cpu()])([batch_of(0, BATCH)], 0.1, 0, 0)
    return before, arrays_after(net)


def assert_close(found, expected):
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5, rtol=1e-5, err_msg=name)


def test_two_devices_update_as_one():
    devices = [mx.cpu(0), mx.cpu(1)]
    net = make_net(devices)
    step = make_step(make_args(), net, devices)
    half = BATCH // 2
    step([batch_of(0, half, devices[0]), batch_of(half, BATCH, devices[1])], 0.1, 0, 0)
    before, expected = one_update()
    assert_close(arrays_after(net), expected)
    assert np.abs(expected['output.weight'] - before['output.weight']).max() > 1e-3
    for param in net.collect_params().values():
        first, second = (array.asnumpy() for array in param.list_data())
        np.testing.assert_array_equal(first, second)


EVERYTHING = {'mixup': 0.2, 'cutmix': 1.0, 'random_erasing': 0.5, 'bce_loss': True, 'drop_connect': 0.1}


def test_mixing_on_two_devices_repeats():
    """What is drawn depends on the seed, the step and the device alone; it differs between devices."""

    def train(seed):
        devices = [mx.cpu(0), mx.cpu(1)]
        net = make_net(devices)
        step = make_step(make_args(**EVERYTHING, seed=seed), net, devices)
        for iteration in range(3):
            step([batch_of(0, BATCH // 2, device) for device in devices], 0.1, 0, iteration)
        return arrays_after(net)

    first, again, other = train(3), train(3), train(4)
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)
    assert not np.array_equal(first['output.weight'], other['output.weight'])


def test_binary_cross_entropy_updates_by_the_mean_over_classes():
    """The scale that keeps its gradients in float16's range does not change the update."""
    net = make_net()
    batch = batch_of(0, BATCH)
    before = arrays_after(net)
    step = make_step(make_args(bce_loss=True, label_smoothing=0.1, mom=0.0, wd=0.0), net, [mx.cpu()])
    with mx.autograd.record():
        logits = net(batch.data[0])
    targets = np.eye(10)[batch.label[0].asnumpy().astype(int)] * 0.9 + 0.01
    errors = 1 / (1 + np.exp(-logits.asnumpy().astype(float))) - targets
    step([batch], 0.1, 0, 0)
    after = arrays_after(net)
    np.testing.assert_allclose(
        after['output.bias'], before['output.bias'] - 0.1 * errors.mean(axis=0) / 10, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize('clip', [None, 0.5])
def test_accumulation_updates_as_the_whole_batch(clip):
    net = make_net()
    step = make_step(make_args(batch_size=BATCH // 4, grad_accum_steps=4, grad_clip_norm=clip), net, [mx.cpu()])
    whole = make_net()
    whole_step = make_step(make_args(grad_clip_norm=clip), whole, [mx.cpu()])
    # The second update must start with a gradient of 0 and the first update's momentum.
    for update, learning_rate in enumerate((1e-3, 1e-5)):
        for part in range(4):
            quarter = batch_of(part * BATCH // 4, (part + 1) * BATCH // 4)
            step([quarter], learning_rate, 0, 4 * update + part)
        whole_step([batch_of(0, BATCH)], learning_rate, 0, update)
        assert_close(arrays_after(net), arrays_after(whole))


def test_clipping_bounds_the_update():
    before, clipped = one_update(grad_clip_norm=0.5, mom=0.0, wd=0.0)
    change = np.sqrt(sum(((clipped[name] - before[name]) ** 2).sum() for name in before))
    assert change == pytest.approx(0.1 * 0.5, rel=1e-3)
    _, free = one_update(grad_clip_norm=1e6, mom=0.0, wd=0.0)
    assert_close(free, one_update(mom=0.0, wd=0.0)[1])


def test_what_weight_decay_is_on():
    net = make_initialized()
    step = make_step(make_args(wd=0.1), net, [mx.cpu()])
    names = {param.name: name for name, param in named_parameters(net).items()}
    trained = [param for param in step.trainer._params if param.grad_req != 'null']
    decayed = {names[param.name] for param in trained if param.wd_mult}
    undecayed = {names[param.name] for param in trained if not param.wd_mult}
    blocks = [(stage, block) for stage in (3, 4, 5, 6) for block in (0, 1)]
    assert decayed == {
        'features.0.weight',
        'output.weight',
        *(f'features.{stage}.{block}.body.{layer}.weight' for stage, block in blocks for layer in (0, 2)),
        *(f'features.{stage}.0.downsample.0.weight' for stage in (4, 5, 6)),
    }
    assert undecayed == {
        'output.bias',
        *(f'features.1.{leaf}' for leaf in ('gamma', 'beta')),
        *(f'features.{stage}.{block}.body.1.{leaf}' for stage, block in blocks for leaf in ('gamma', 'beta')),
        *(f'features.{stage}.{block}.bn_add_relu.{leaf}' for stage, block in blocks for leaf in ('gamma', 'beta')),
        *(f'features.{stage}.0.downsample.1.{leaf}' for stage in (4, 5, 6) for leaf in ('gamma', 'beta')),
    }


def test_weight_decay_shrinks_weights_alone():
    """With a gradient of 0, weights change only by weight decay."""
    net = make_net()
    before = arrays_after(net)
    step = make_step(make_args(wd=0.1, mom=0.0), net, [mx.cpu()])
    with mx.autograd.record():
        nothing = net(batch_of(0, BATCH).data[0]).sum() * 0
    nothing.backward()
    step.trainer.set_learning_rate(0.5)
    step.trainer.update(1)
    for name, array in arrays_after(net).items():
        factor = 1 - 0.5 * 0.1 if name.endswith('weight') else 1
        np.testing.assert_allclose(array, factor * before[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize('warmup', ['tensorflow', 'none'])
def test_averaged_parameters(warmup):
    params = make_net().collect_params()
    name, running = (next(name for name in params if name.endswith(ending)) for ending in ('weight', 'running_var'))
    average = ParameterEMA({name: params[name], running: params[running]}, 0.9, warmup)
    expected = params[name].data().asnumpy()
    for update in range(1, 200):
        params[name].set_data(params[name].data() + 1)
        average.update()
        decay = 0.9 if warmup == 'none' else min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * params[name].data().asnumpy()
    np.testing.assert_allclose(average.arrays[name].asnumpy(), expected, rtol=1e-4)
    assert average.arrays[running].dtype == np.float32


def test_dynamic_scale():
    scale = DynamicLossScaling()
    good, bad = [mx.nd.ones(3)], [mx.nd.array([1, np.inf])]
    assert scale.check_gradients(good)
    assert not scale.has_just_skipped()
    assert not scale.check_gradients(bad)
    assert scale.has_just_skipped()
    assert not scale.has_just_skipped()
    assert scale.value == 2**15
    assert not scale.check_gradients([mx.nd.array([np.nan])])
    assert scale.skipped_in_a_row == 2
    for _ in range(scale.STEPS_BETWEEN_DOUBLINGS):
        assert scale.check_gradients(good)
    assert (scale.value, scale.skipped_in_a_row) == (2**15, 0)


@pytest.mark.parametrize('scale', [1.0, 1024.0])
def test_loss_scale_changes_no_update(scale):
    net = make_net()
    step = make_step(make_args(grad_clip_norm=0.5), net, [mx.cpu()])
    step.loss_scale.value = scale
    step([batch_of(0, BATCH)], 0.1, 0, 0)
    assert_close(arrays_after(net), one_update(grad_clip_norm=0.5)[1])


def test_overflow_skips_the_update_and_leaves_running_statistics():
    net = make_initialized()
    step = make_step(make_args(amp=True), net, [mx.cpu()])
    step.loss_scale.value = 1.0
    before = arrays_after(net)
    bad = batch_of(0, BATCH)
    bad.data[0][0] = np.inf
    step([bad], 0.1, 0, 0)
    for name, array in arrays_after(net).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert step.loss_scale.has_just_skipped()


@pytest.mark.parametrize(
    'optimizer', ['sgd', 'nag', 'adam', 'adamw', 'nadam', 'lamb', 'lars', 'rmsprop', 'rmsprop_tf', 'adagrad', 'signum']
)
def test_optimizers_by_name(optimizer):
    before, after = one_update(optimizer=optimizer)
    assert any((before[name] != after[name]).any() for name in before)
    assert all(np.isfinite(array).all() for array in after.values())
