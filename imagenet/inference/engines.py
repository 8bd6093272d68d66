"""`--engine`: what computes the network in `--mode val` and `pred` on a CPU.

An engine has one method. `start(images)` starts to compute the logits of images, a float32 array `(N, 3, H, W)`, and
returns a function that waits for them and returns an array `(N, num_classes)`. Meanwhile, other images are decoded.

The engines other than MXNet run the ONNX file of export.py. Their logits are compared with the plain network's first.
"""

import importlib
import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Optional

import numpy as np

from imagenet.common.errors import UserError, is_out_of_memory, reason_of
from imagenet.inference.engine_choice import choose_fastest, fastest_on_all_ranks
from imagenet.inference.export import NotExportableError, onnx_model
from imagenet.inference.fused_graph import TOLERANCE, relative_difference
from imagenet.inference.model_cache import cached
from imagenet.inference.mxnet_engine import MXNetEngine
from imagenet.inference.onnxruntime_engine import OnnxRuntimeEngine
from imagenet.inference.openvino_engine import OpenVinoEngine
from imagenet.runtime.compat import view_of
from imagenet.runtime.threads import computing_threads, run_on_all_cores

MXNET = 'mxnet'
AUTO = 'auto'
# An engine's library has the name of its option.
ENGINES = {'onnxruntime': OnnxRuntimeEngine, 'openvino': OpenVinoEngine}
ENGINE_NAMES = (MXNET, *ENGINES, AUTO)
EXPORTER = 'onnx'
FLOAT32, BFLOAT16 = 'float32', 'bfloat16'
# Of the logits, relative to their norm. bfloat16 has 8 bits of precision, and each layer rounds its result.
TOLERANCES = {FLOAT32: TOLERANCE, BFLOAT16: 0.1}


def add_engine_args(parser):
    group = parser.add_argument_group('Engine')
    group.add_argument(
        '--engine',
        choices=ENGINE_NAMES,
        default=MXNET,
        help='what computes --mode val and pred on a CPU; auto: the fastest that is installed, measured at the start '
        'for at most two seconds; those other than mxnet need scripts/setup.sh --engines (default: %(default)s)',
    )
    group.add_argument(
        '--inference-dtype',
        choices=tuple(TOLERANCES),
        default=FLOAT32,
        help='precision of --mode val and pred on a CPU; bfloat16 is faster if the processor has it, and onnxruntime '
        'lacks it (default: %(default)s)',
    )
    return group


def missing_packages(name):
    """Return the packages that an engine needs and that are not installed."""
    return [package for package in (EXPORTER, name) if importlib.util.find_spec(package) is None]


def installed_engines(dtype=FLOAT32):
    """Return the names of the engines, other than MXNet, whose packages are installed and that have a precision."""
    return [name for name, engine in ENGINES.items() if dtype in engine.DTYPES and not missing_packages(name)]


def check_installed(name):
    """Raise `UserError` if an engine's packages are not installed, or cannot be loaded."""
    if name not in ENGINES:
        return
    missing = missing_packages(name)
    if missing:
        raise UserError(f'--engine {name}: {" and ".join(missing)} not installed: run scripts/setup.sh --engines')
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise UserError(f'--engine {name}: cannot be loaded ({error}): run scripts/setup.sh --engines') from None


class EngineError(UserError):
    """An engine's library fails."""


@dataclass
class Exported:
    """A network that engines can compute.

    Attributes:
        model: the bytes of its ONNX file.
        images: some images `(N, 3, H, W)`, used to compare logits.
        logits: the plain network's logits for them; None for an int8 network, whose logits differ.
        notes: lines for the log.
    """

    model: bytes
    images: np.ndarray
    logits: Optional[np.ndarray]
    notes: list


def export_for_engines(plain, key, option):
    """Return the `Exported` network, from the cache if it is there.

    Args:
        plain: a `PlainNetwork` for images `(N, 3, H, W)`.
        key: everything that determines the exported network; see `model_cache.cached`.
        option: the option that needs it, named in messages.

    Raises:
        UserError: the network cannot be exported, or its file in the cache was changed.
    """
    model, note = cached(key, lambda: onnx_model(plain.net, plain.images.shape[1:], option))
    return Exported(model, plain.images.asnumpy(), plain.logits, [note] if note else [])


def check_dtype(name, dtype):
    """Raise `UserError` if an engine lacks a precision."""
    if name in ENGINES and dtype not in ENGINES[name].DTYPES:
        others = ', '.join(other for other in (MXNET, *ENGINES) if other != name)
        raise UserError(f'--inference-dtype {dtype}: --engine {name} does not have it on a CPU; use one of {others}')


class OneLineErrors:
    """One of `ENGINES` whose library's errors, of many types, become `EngineError`s.

    Args:
        name: of the engine.
        model: the bytes of its ONNX file.

    Attributes:
        version: the library's name and version.
    """

    def __init__(self, name, model, threads, dtype=FLOAT32):
        self._name = name
        with self._one_line():
            self._engine = ENGINES[name](model, threads, dtype)
        self.version = self._engine.version

    def start(self, images):
        with self._one_line():
            return partial(self._wait, self._engine.start(images))

    def _wait(self, wait):
        with self._one_line():
            return wait()

    @contextmanager
    def _one_line(self):
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise EngineError(f'--engine {self._name}: fails ({reason_of(error)}); use --engine {MXNET}') from error


def open_engine(name, exported, dtype=FLOAT32):
    """Return an engine that computes an `Exported` network, and lines for the log.

    Args:
        name: one of `ENGINES`.
        dtype: the precision.

    Raises:
        UserError: the engine fails, or its logits differ from the plain network's.
    """
    # Threads inherit the cores of the one that starts them, and OpenVINO's library computes with as many as the main
    # thread has when it is loaded. OpenMP may have bound that to one.
    run_on_all_cores()
    threads = computing_threads()
    engine = OneLineErrors(name, exported.model, threads, dtype)
    found = f'{engine.version}, threads: {threads}'
    if exported.logits is None:
        return engine, [found, *exported.notes]
    difference = relative_difference(engine.start(exported.images)(), exported.logits)
    if not difference < TOLERANCES[dtype]:
        raise UserError(f'--engine {name}: changes the logits by {difference:.2g} of their norm; use --engine {MXNET}')
    return engine, [f'{found}; its logits differ by {difference:.1e} of their norm', *exported.notes]


def open_fastest(open_own, export, batch_size, dtype=FLOAT32):
    """Return the fastest engine for batches of a size, and lines for the log.

    Args:
        open_own: a function that returns the `MXNetEngine` of the network, and lines for the log.
        export: a function that returns the `Exported` network. It is called first, because MXNet's mixed precision
            would change what is exported.
        dtype: the precision.

    Raises:
        UserError: the file of the network in the cache was changed.
    """
    candidates, reason = installed_engines(dtype), f'--engine {AUTO}: {MXNET}, because no other engine is installed'
    try:
        exported = export() if candidates else None
    except NotExportableError as error:
        exported, reason = None, str(error)
    if exported is None:
        own, own_notes = open_own()
        # Other ranks may have engines to choose from, on other hosts; now they know that this one has not.
        fastest_on_all_ranks({})
        return own, [reason, *own_notes]
    run_on_all_cores()
    with ThreadPoolExecutor(len(candidates)) as pool:
        opening = {name: pool.submit(open_engine, name, exported, dtype) for name in candidates}
        own, own_notes = open_own()
        start = time.perf_counter()
    engines, notes = {MXNET: own}, {MXNET: own_notes}
    for name, opened in opening.items():
        try:
            engines[name], notes[name] = opened.result()
        except UserError as error:
            notes[MXNET].append(str(error))
    chosen, line = choose_fastest(engines, exported.images, batch_size, time.perf_counter() - start)
    return engines[chosen], [line, *notes[chosen]]


def as_network(engine):
    """Return an engine as a network, whose images are MXNet's arrays, and its logits MXNet's or NumPy's."""
    return engine.net if isinstance(engine, MXNetEngine) else EngineNetwork(engine)


class EngineNetwork:
    """An engine in place of a network: images are MXNet's arrays on the CPU, and logits NumPy's."""

    def __init__(self, engine):
        self._engine = engine

    def __call__(self, images):
        return self._engine.start(view_of(images))()
