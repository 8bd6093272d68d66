"""`--mode calibrate`: makes an int8 network from a checkpoint and calibration images.

MXNet quantizes the fused graph: convolutions and dense layers compute in int8, with one scale per output channel of a
weight and one per activation. The range of an activation is what the calibration images reach ('minmax'), or what
minimizes the relative entropy between the float32 and int8 distributions ('entropy'; Migacz, "8-bit Inference with
TensorRT", GTC 2017). If accuracy drops too far, layers return to float32, the most sensitive first. The int8 network of
the other engines is made and guarded in the same way, from the ONNX file; see onnx_quantization.py.
"""

import hashlib
import importlib.util
import itertools
import json
import warnings
from collections import namedtuple
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np

from imagenet.checkpoints.parameters import named_parameters, write_arrays
from imagenet.common.errors import UserError
from imagenet.common.files import file_sha256, write_atomically, write_json
from imagenet.common.options import integer, number
from imagenet.datasets.records import RecordFile
from imagenet.inference.engines import MXNET, EngineError, EngineNetwork, OneLineErrors, installed_engines
from imagenet.inference.fused_graph import inference_graph, network_of, relative_difference
from imagenet.inference.int8_network import int8_files
from imagenet.inference.onnx_quantization import OnnxQuantizer
from imagenet.input_pipeline.transforms import as_network_input, evaluation_images
from imagenet.runtime import processor
from imagenet.runtime.compat import as_numpy, load_quantization, mx
from imagenet.runtime.seeds import derive_seed
from imagenet.runtime.threads import computing_threads

# Values of `--calib-mode`, and MXNet's names for them.
CALIBRATION_MODES = {'minmax': 'naive', 'entropy': 'entropy'}
# Constant, so that ranges do not depend on `--batch-size`; small, since histograms are built from complete activations.
BATCH_SIZE = 16
RANKING_BATCHES = 4
CALIBRATION_STREAM = 2
# oneDNN's fused convolutions and dense layers, whose second input is the weight.
LAYER_OPERATORS = ('_sg_mkldnn_conv', '_sg_mkldnn_fully_connected')
# MXNet's int8 product needs signed factors, but the outputs of a sigmoid are unsigned.
NOT_QUANTIZED = ['elemwise_mul']
ON_ACTIVATIONS = {'quantized_dtype': 'auto', 'quantize_mode': 'full', 'quantize_granularity': 'channel-wise'}


def add_quantization_args(parser):
    group = parser.add_argument_group('Quantization', 'How --mode calibrate makes an int8 network')
    group.add_argument(
        '--calib-images',
        type=integer(1, 1_000_000),
        default=500,
        help='number of images to measure the ranges of activations with, evenly spaced in --data-train, or in '
        '--data-val if there is no such file (default: %(default)s)',
    )
    group.add_argument(
        '--calib-mode',
        choices=tuple(CALIBRATION_MODES),
        default='minmax',
        help='minmax: smallest and largest value; entropy: minimizes the KL divergence between float32 and int8 '
        'activations; slower (default: %(default)s)',
    )
    group.add_argument(
        '--max-drop',
        type=number(at_least=0, at_most=1),
        default=0.005,
        help='return layers to float32 until int8 loses at most this much top-1 with each engine, as a fraction '
        '(default: %(default)s)',
    )
    return group


@dataclass(frozen=True)
class CalibrationOptions:
    """The options of the same names.

    Raises:
        UserError: `--calib-mode entropy` is requested and SciPy is missing.
    """

    calib_images: int
    calib_mode: str
    max_drop: float
    benchmark_iters: int

    def __post_init__(self):
        if self.calib_mode == 'entropy' and importlib.util.find_spec('scipy') is None:
            raise UserError('--calib-mode entropy needs SciPy: run scripts/setup.sh, or use --calib-mode minmax')


class CalibrationImages:
    """Batches of calibration images in the network's input form; every iteration, a generator, yields the same ones.

    Args:
        records: (record file, index); None for synthetic images.
        count: number of images.
        evaluation: `EvaluationOptions`.
        form: the network's `InputForm`.
        seed: seed of synthetic images.

    Attributes:
        source: a description of the images.
    """

    def __init__(self, records, count, evaluation, form, seed):
        self.source = 'synthetic images' if records is None else f'images of {records[0]}'
        self._records = records
        self._count = count
        self._evaluation = evaluation
        self._form = form
        self._seed = seed

    def __iter__(self):
        with closing(self._draw_images() if self._records is None else self._read_images()) as images:
            while True:
                batch = list(itertools.islice(images, BATCH_SIZE))
                if not batch:
                    return
                yield as_network_input(mx.nd.array(np.stack(batch)), self._form)

    def _draw_images(self):
        random = np.random.RandomState(derive_seed(self._seed, CALIBRATION_STREAM))
        shape = (3, *self._evaluation.image_shape[1:])
        return (random.standard_normal(shape).astype(np.float32) for _ in range(self._count))

    def _read_images(self):
        with RecordFile(*self._records) as records:
            # Files are often sorted by class.
            numbers = np.linspace(0, len(records) - 1, self._count).round().astype(int)
            with closing(evaluation_images(records, numbers.tolist(), self._evaluation)) as images:
                yield from images


# model: the bytes of the ONNX file for the other engines, or None.
Int8Network = namedtuple('Int8Network', 'symbol arrays model results')


def calibrate(unfused, model, reference, images, val_data, options, log):
    """Make an int8 network and compare it with the float32 one on the validation set.

    Args:
        unfused: the float32 network on the CPU, with separate operators.
        model: the bytes of its ONNX file, from which an int8 one for the other engines is made; or None.
        reference: the fastest form of the float32 network, for its predictions.
        images: `CalibrationImages`.
        val_data: `DeviceBatches` of the validation set.
        options: `CalibrationOptions`.
        log: a `RunLog`.

    Returns:
        An `Int8Network`; its `results` go into the JSON that describes it.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256()
    with closing(iter(images)) as batches:
        quantizer = Quantizer(unfused, options.calib_mode, _hashed(batches, digest))
    log.info(f'calibrated with {options.calib_images} {images.source}: {len(quantizer.layers)} layers')
    validation = Validation(reference, val_data, options, log)
    guard = partial(with_small_drop, net=unfused, images=images, options=options, log=log)
    (symbol, arrays), qualities, in_float32 = guard(
        quantizer, lambda made: {MXNET: validation.compare(network_of(*made), 'int8')}
    )
    calibration = {'images': options.calib_images, 'of': images.source, 'mode': options.calib_mode}
    results = {
        'calibration': {**calibration, 'sha256': digest.hexdigest()},
        'validation': {**qualities[MXNET], 'instruction_set': processor.instruction_set().name},
        'in_float32': in_float32,
    }
    if model is not None:
        canonical = {param.name: name for name, param in named_parameters(unfused).items()}
        with closing(iter(images)) as batches:
            quantizer = OnnxQuantizer(model, canonical, options.calib_mode, batches)
        model, qualities, in_float32 = guard(quantizer, validation.compare_engines)
        if qualities:
            results['onnx'] = {'validation': qualities, 'in_float32': in_float32}
        else:
            log.info(f'no int8 network for engines other than {MXNET}: all that are installed fail')
            model = None
    return Int8Network(symbol, arrays, model, results)


class Validation:
    """The classes that the float32 network predicts on the validation set, for comparison with int8 networks."""

    def __init__(self, reference, data, options, log):
        self._data, self._most_steps, self._log = data, options.benchmark_iters, log
        self._expected, self._labels = predicted_classes(reference, data, self._most_steps, log, 'float32')

    def compare(self, net, name):
        """Return accuracies and agreement of an int8 network; see `compare_predictions`."""
        found, _ = predicted_classes(net, self._data, self._most_steps, self._log, name)
        quality = compare_predictions(self._expected, found, self._labels)
        self._log.info(
            f'top-1 {quality["top1_float32"]:.4f} in float32, {quality["top1_int8"]:.4f} in {name}; '
            f'{100 * quality["agreement"]:.2f} % of {len(self._labels)} predictions agree'
        )
        return quality

    def compare_engines(self, model):
        """Return the same of an int8 ONNX file, with the engine's version, by installed engine that does not fail."""
        qualities = {}
        for name in installed_engines():
            try:
                engine = OneLineErrors(name, model, computing_threads())
                quality = self.compare(EngineNetwork(engine), f'int8 with {engine.version}')
            except EngineError as error:
                self._log.info(str(error))
                continue
            qualities[name] = {**quality, 'version': engine.version}
        return qualities


def with_small_drop(quantizer, compare, net, images, options, log):
    """Quantize a network, and return layers to float32 until every accuracy is within `--max-drop`.

    Args:
        quantizer: a `Quantizer` or an `OnnxQuantizer`.
        compare: a function of what it makes that returns `compare_predictions`, by engine.
        net: the float32 network.

    Returns:
        What the quantizer has made, the last comparison, and the layers in float32.
    """
    in_float32, candidates = [], None
    while True:
        made = quantizer.quantize(in_float32)
        qualities = compare(made)
        drop = max((quality['top1_float32'] - quality['top1_int8'] for quality in qualities.values()), default=0)
        if drop <= options.max_drop or len(in_float32) == len(quantizer.layers):
            return made, qualities, in_float32
        if candidates is None:
            candidates = rank_layers(quantizer, net, images, log)
        in_float32.append(candidates.pop(0))
        log.info(f'{in_float32[-1]} returns to float32')


def _hashed(batches, digest):
    for batch in batches:
        digest.update(batch.asnumpy().tobytes())
        yield batch


class Quantizer:
    """Makes int8 graphs from a network on the CPU that is built with separate operators.

    Args:
        calib_mode: one of `CALIBRATION_MODES`.
        batches: the calibration images, with which the ranges of all activations are measured.

    Attributes:
        layers: the layers that can run in int8 or float32, as the canonical names of their weights, in graph order.
    """

    def __init__(self, net, calib_mode, batches):
        self._mxnet = load_quantization()
        batches = iter(batches)
        first = next(batches)
        symbol, arrays = inference_graph(net, first.shape)
        self._graph = symbol.get_backend_symbol('MKLDNN_QUANTIZE')
        self._weights = {name: arrays[name] for name in symbol.list_arguments() if name != 'data'}
        self._statistics = {name: arrays[name] for name in symbol.list_auxiliary_states()}
        self._nodes = self._find_layers({param.name: name for name, param in named_parameters(net).items()})
        self.layers = list(self._nodes)
        self._ranges = SimpleNamespace(
            min_max_dict=self._measure_ranges(itertools.chain([first], batches), CALIBRATION_MODES[calib_mode])
        )

    def _find_layers(self, canonical):
        nodes = self._operators()
        return {canonical[inputs[1]]: name for name, (operator, inputs) in nodes.items() if operator in LAYER_OPERATORS}

    def _operators(self):
        """Return (operator, names of its inputs) by name; each node comes after its inputs."""
        nodes = json.loads(self._graph.tojson())['nodes']
        return {
            node['name']: (node['op'], [nodes[index]['name'] for index, *_ in node['inputs']])
            for node in nodes
            if node['op'] != 'null'
        }

    def _measure_ranges(self, batches, mode):
        """Return the smallest and largest value of each tensor that will be quantized, by name."""
        *_, collector = self._quantize_graph([], mode)
        net = network_of(self._graph, {**self._weights, **self._statistics})
        net.hybridize(static_alloc=False, static_shape=False)
        net.register_op_hook(lambda name, _, array: collector.collect(name, array), monitor_all=True)
        with warnings.catch_warnings():
            # MXNet warns that hooks may not work in static graphs, but this graph is not static.
            warnings.simplefilter('ignore')
            for batch in batches:
                net(batch).wait_to_read()
        if mode == 'naive':
            return collector.min_max_dict
        # Once for all graphs; `calib_graph` would do it again for each.
        ranges = self._mxnet._get_optimal_thresholds(collector.hist_dict, ON_ACTIVATIONS['quantized_dtype'])
        # Arrays of one element. `calib_graph` passes them on as numbers, which NumPy 2 refuses.
        return {name: tuple(np.asarray(limit).item() for limit in limits) for name, limits in ranges.items()}

    def _quantize_graph(self, nodes_in_float32, mode):
        return self._mxnet.quantize_graph(
            self._graph,
            self._weights,
            self._statistics,
            excluded_sym_names=nodes_in_float32,
            excluded_op_names=NOT_QUANTIZED,
            calib_mode=mode,
            **ON_ACTIVATIONS,
        )

    def _nodes_in_float32(self, layers):
        """Return the nodes of these layers and those that only pool or add their outputs, where int8 gains nothing."""
        found = {self._nodes[name] for name in layers}
        operators = self._operators()
        for name, (operator, inputs) in operators.items():
            sources = [source for source in inputs if source in operators]
            if operator not in LAYER_OPERATORS and sources and found.issuperset(sources):
                found.add(name)
        return sorted(found)

    def runner(self, in_float32):
        """Return a function from images to logits, which computes with these layers in float32."""
        net = network_of(*self.quantize(in_float32))
        return lambda batch: net(batch).asnumpy()

    def quantize(self, in_float32):
        """Return the graph and its arrays by name, with these layers in float32."""
        symbol, *_ = self._quantize_graph(self._nodes_in_float32(in_float32), 'none')
        symbol, weights, statistics = self._mxnet.calib_graph(
            symbol, self._weights, self._statistics, self._ranges, calib_mode='customize', logger=None
        )
        # The layers themselves then scale back to float32 and contain the ranges of their outputs.
        symbol = symbol.get_backend_symbol('MKLDNN_QUANTIZE')
        return symbol, {**weights, **statistics}


def predicted_classes(net, data, most_steps, log, name):
    """Return the most likely class of each validation example, and the labels, as two integer arrays `(N,)`."""
    data.reset(epoch=0)
    found, labels = [], []
    steps = min(len(data), most_steps or len(data))
    with log.progress(steps, f'validation in {name}') as bar:
        for (batch,) in itertools.islice(data, steps):
            counted = data.batch_size - batch.pad
            found.append(as_numpy(net(batch.data[0]))[:counted].argmax(axis=1))
            labels.append(batch.label[0].asnumpy()[:counted].astype(int))
            bar.update()
    return np.concatenate(found), np.concatenate(labels)


def compare_predictions(expected, found, labels):
    """Return accuracies as fractions, and the fraction of examples for which both networks predict the same class."""
    return {
        'examples': len(labels),
        'top1_float32': float(np.mean(expected == labels)),
        'top1_int8': float(np.mean(found == labels)),
        'agreement': float(np.mean(expected == found)),
    }


def rank_layers(quantizer, net, calibration_images, log):
    """Return all layers, the most sensitive to int8 first.

    Each layer in turn is computed in float32 and all others in int8. The closer the logits then are to those of `net`,
    the more sensitive the layer is.
    """
    images = list(itertools.islice(calibration_images, RANKING_BATCHES))
    expected = np.concatenate([net(batch).asnumpy() for batch in images])
    differences = {}
    with log.progress(len(quantizer.layers), 'ranking layers') as bar:
        for name in quantizer.layers:
            run = quantizer.runner([name])
            differences[name] = relative_difference(np.concatenate([run(batch) for batch in images]), expected)
            bar.update()
    return sorted(quantizer.layers, key=differences.get)


def write_int8(prefix, network, made_from, description):
    """Write the graph, the parameters, the ONNX file and, last, the JSON with their checksums and description.

    Args:
        prefix: the start of the file names.
        network: an `Int8Network`.
        made_from: the checkpoint's path.
        description: description of the network, its input and its classes.
    """
    symbol_path, array_path, model_path, description_path = int8_files(prefix)
    paths = [symbol_path, array_path]
    if network.model is not None:
        write_atomically(model_path, lambda temporary: temporary.write_bytes(network.model))
        paths.append(model_path)
    write_atomically(symbol_path, lambda temporary: network.symbol.save(str(temporary)))
    needed = {name: network.arrays[name] for name in network.symbol.list_inputs() if name != 'data'}
    write_arrays(array_path, needed)
    content = {
        'made_from': {'file': str(made_from), 'sha256': file_sha256(made_from)},
        **description,
        **network.results,
        'files': {path.name: file_sha256(path) for path in paths},
    }
    write_json(description_path, content)
