"""`--engine`: what computes the network in `--mode val` and `pred` on a CPU.

An engine has one method. `start(images)` starts to compute the logits of images, a float32 array `(N, 3, H, W)`, and
returns a function that waits for them and returns an array `(N, num_classes)`. Meanwhile, other images are decoded.

The engines other than MXNet run the ONNX file of export.py. Their logits are compared with the plain network's first.
"""

import importlib
import importlib.util

import numpy as np

from imagenet.common.errors import UserError
from imagenet.inference.export import onnx_model
from imagenet.inference.fused_graph import TOLERANCE, relative_difference
from imagenet.inference.model_cache import cached
from imagenet.inference.onnxruntime_engine import OnnxRuntimeEngine
from imagenet.inference.openvino_engine import OpenVinoEngine
from imagenet.runtime.compat import mx
from imagenet.runtime.threads import computing_threads, run_on_all_cores

MXNET = 'mxnet'
# An engine's library has the name of its option.
ENGINES = {'onnxruntime': OnnxRuntimeEngine, 'openvino': OpenVinoEngine}
EXPORTER = 'onnx'


def add_engine_args(parser):
    group = parser.add_argument_group('Engine')
    group.add_argument(
        '--engine',
        choices=(MXNET, *ENGINES),
        default=MXNET,
        help='what computes --mode val and pred on a CPU; those other than mxnet need scripts/setup.sh --engines '
        '(default: %(default)s)',
    )
    return group


def missing_packages(name):
    """Return the packages that an engine needs and that are not installed."""
    return [package for package in (EXPORTER, name) if importlib.util.find_spec(package) is None]


def check_installed(name):
    """Raise `UserError` if an engine's packages are not installed, or cannot be loaded."""
    missing = missing_packages(name)
    if missing:
        raise UserError(f'--engine {name}: {" and ".join(missing)} not installed: run scripts/setup.sh --engines')
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise UserError(f'--engine {name}: cannot be loaded ({error}): run scripts/setup.sh --engines') from None


def open_engine(name, net, images, key):
    """Return an engine that computes a network, and lines for the log.

    Args:
        name: one of `ENGINES`.
        net: the float32 network on the CPU, with separate operators, for images `(N, 3, H, W)`.
        images: some images, used to compare logits.
        key: everything that determines the exported network; see `model_cache.cached`.

    Raises:
        UserError: the network cannot be exported, its file in the cache was changed, or the logits differ.
    """
    model, note = cached(key, lambda: onnx_model(net, images.shape[1:], f'--engine {name}'))
    # The engine's threads inherit the cores of the calling one, which OpenMP may have bound to a single core.
    run_on_all_cores()
    threads = computing_threads()
    engine = ENGINES[name](model, threads)
    difference = relative_difference(engine.start(images)(), net(mx.nd.array(images)).asnumpy())
    if not difference < TOLERANCE:
        raise UserError(f'--engine {name}: changes the logits by {difference:.2g} of their norm; use --engine {MXNET}')
    found = f'computing with {engine.version}, threads: {threads}; its logits differ by {difference:.1e} of their norm'
    return engine, [found, *([note] if note else [])]


class EngineNetwork:
    """An engine in place of an MXNet network: images and logits are MXNet's arrays on the CPU."""

    def __init__(self, engine):
        self._engine = engine

    def __call__(self, images):
        logits = self._engine.start(images.asnumpy())()
        return mx.nd.from_numpy(np.ascontiguousarray(logits))
