"""engines.py: each engine computes every network, or says in one line why not."""

import importlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.networks import NETWORKS, make, random_arrays
from imagenet.checkpoints.parameters import set_canonical
from imagenet.common.errors import UserError
from imagenet.inference import engine_choice, engines
from imagenet.inference.engines import (
    ENGINES,
    EngineNetwork,
    as_network,
    check_installed,
    export_for_engines,
    open_engine,
    open_fastest,
)
from imagenet.inference.export import NotExportableError, onnx_model
from imagenet.inference.fused_graph import PlainNetwork, relative_difference
from imagenet.inference.mxnet_engine import MXNetEngine
from imagenet.input_pipeline.transforms import InputForm
from imagenet.runtime import processor
from imagenet.runtime.compat import as_numpy, mx
from imagenet.runtime.threads import OWN_CORES, run_on_all_cores

SIZE = 64


def random_network(arch='resnetv15', num_layers=10, **settings):
    net = make(arch=arch, num_layers=num_layers, image_shape=(3, SIZE, SIZE), **settings)
    set_canonical(net, random_arrays(net))
    return net


def random_images(count, seed=0):
    return np.random.RandomState(seed).standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)


def exported(net, key=None):
    return export_for_engines(PlainNetwork(net, mx.nd.array(random_images(2))), key, '--engine')


@pytest.mark.parametrize(('arch', 'num_layers'), NETWORKS)
def test_engines_compute_the_same(arch, num_layers, tmp_path, monkeypatch):
    """The second engine takes the exported network from the cache."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    net = random_network(arch, num_layers)
    for engine in ENGINES:
        opened, (note,) = open_engine(engine, exported(net, {'arch': arch}))
        for size in (1, 7, 3):
            images = random_images(size, seed=size)
            logits = opened.start(images)()
            assert logits.dtype == np.float32
            assert relative_difference(logits, net(mx.nd.array(images)).asnumpy()) < 1e-4
        assert opened.version in note


@pytest.mark.parametrize('engine', ENGINES)
def test_batches_are_computed_in_the_background(engine):
    """All are started before the first result is taken, which later ones do not change."""
    net = random_network()
    opened, _ = open_engine(engine, exported(net))
    batches = [random_images(4, seed) for seed in range(4)]
    waiting = [opened.start(images) for images in batches]
    results = [wait() for wait in waiting]
    for images, logits in zip(batches, results):
        assert relative_difference(logits, net(mx.nd.array(images)).asnumpy()) < 1e-4


@pytest.mark.parametrize('engine', ENGINES)
def test_threads_run_on_all_cores(engine, monkeypatch):
    """OpenMP may bind the main thread to a core before the engine is opened, or before another batch size."""
    monkeypatch.setenv('OMP_NUM_THREADS', str(len(OWN_CORES)))
    network, before = exported(random_network()), threads()
    try:
        os.sched_setaffinity(0, {min(OWN_CORES)})
        opened, _ = open_engine(engine, network)
        os.sched_setaffinity(0, {min(OWN_CORES)})
        opened.start(random_images(9))()
        started = threads() - before
        assert all(os.sched_getaffinity(thread) == set(OWN_CORES) for thread in started)
    finally:
        run_on_all_cores()
    assert started or len(OWN_CORES) == 1


def threads():
    return {int(entry.name) for entry in Path('/proc/self/task').iterdir()}


@pytest.mark.parametrize('engine', ENGINES)
def test_images_in_any_memory(engine):
    net = random_network()
    opened, _ = open_engine(engine, exported(net))
    images = random_images(3)
    expected = opened.start(images)()
    read_only = images.copy()
    read_only.flags.writeable = False
    strided = np.ascontiguousarray(images[..., ::-1])[..., ::-1]
    for same in (read_only, strided):
        np.testing.assert_array_equal(opened.start(same)(), expected)


def test_bfloat16():
    net = random_network()
    opened, _ = open_engine('openvino', exported(net), 'bfloat16')
    images = random_images(4)
    logits = opened.start(images)()
    assert logits.dtype == np.float32
    difference = relative_difference(logits, net(mx.nd.array(images)).asnumpy())
    # Where the processor lacks it, OpenVINO computes in float32.
    assert difference < 0.05
    assert difference > 1e-4 or processor.instruction_set().bfloat16 is None


def test_engine_in_place_of_a_network():
    net = random_network()
    opened, _ = open_engine('onnxruntime', exported(net))
    images = mx.nd.array(random_images(3))
    logits = EngineNetwork(opened)(images)
    assert isinstance(logits, np.ndarray)
    assert relative_difference(logits, net(images).asnumpy()) < 1e-4


def mxnet_engine(net):
    return MXNetEngine(net, InputForm((3, SIZE, SIZE), 'NCHW', 'float32'), mx.cpu())


def test_fastest_engine(monkeypatch):
    # However long it took to open them on a busy machine.
    monkeypatch.setattr(engine_choice, 'LEAST_SECONDS', 10)
    net = random_network()
    engine, notes = open_fastest(lambda: (mxnet_engine(net), []), lambda: exported(net), batch_size=4)
    assert notes[0].startswith('--engine auto: ')
    assert all(f'{name} ' in notes[0] for name in ('mxnet', *ENGINES))
    images = mx.nd.array(random_images(3))
    assert relative_difference(as_numpy(as_network(engine)(images)), net(images).asnumpy()) < 1e-4


def test_engine_that_differs_is_not_chosen(monkeypatch):
    net = random_network()
    network = exported(net)
    monkeypatch.setitem(engines.TOLERANCES, 'float32', 0)
    engine, notes = open_fastest(lambda: (mxnet_engine(net), []), lambda: network, batch_size=4)
    assert as_network(engine) is net
    assert sum('changes the logits' in note for note in notes) == len(ENGINES)


def unexportable():
    raise NotExportableError('--engine auto: an operator')


def test_fastest_of_one(monkeypatch):
    own = mxnet_engine(random_network())
    opened = open_fastest(lambda: (own, ['slow']), unexportable, batch_size=4)
    assert opened == (own, ['--engine auto: an operator', 'slow'])
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    engine, (note,) = open_fastest(lambda: (own, []), unexportable, batch_size=4)
    assert engine is own
    assert note == '--engine auto: mxnet, because no other engine is installed'


@pytest.mark.parametrize('engine', ENGINES)
def test_logits_that_differ(engine, monkeypatch):
    """No engine meets a tolerance of 0."""
    monkeypatch.setitem(engines.TOLERANCES, 'float32', 0)
    with pytest.raises(UserError, match=f'--engine {engine}: changes the logits by .* use --engine mxnet'):
        open_engine(engine, exported(random_network()))


@pytest.mark.parametrize('engine', ENGINES)
def test_library_that_fails(engine):
    """It cannot read the file, or compute images of another size than the file's."""
    network = exported(random_network())
    failure = f'--engine {engine}: fails (.*); use --engine mxnet$'
    with pytest.raises(UserError, match=failure):
        open_engine(engine, replace(network, model=network.model[:1000]))
    opened, _ = open_engine(engine, network)
    with pytest.raises(UserError, match=failure):
        opened.start(random_images(2)[..., 1:])()


def test_library_that_fails_is_not_chosen():
    net = random_network()
    broken = replace(exported(net), model=b'not a network')
    engine, notes = open_fastest(lambda: (mxnet_engine(net), []), lambda: broken, batch_size=4)
    assert as_network(engine) is net
    assert sum(': fails (' in note for note in notes) == len(ENGINES)


def test_operator_that_cannot_be_exported():
    class Unknown(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return F.arcsinh(x)

    with pytest.raises(UserError, match='--engine openvino: MXNet cannot write .* as ONNX, .* operator arcsinh'):
        onnx_model(Unknown(), (3, SIZE, SIZE), '--engine openvino')


@pytest.mark.parametrize('engine', ENGINES)
def test_missing_packages(engine, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == engine else find(name))
    with pytest.raises(UserError, match=f'--engine {engine}: {engine} not installed: run scripts/setup.sh --engines'):
        check_installed(engine)
