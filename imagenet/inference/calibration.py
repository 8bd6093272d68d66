"""`--mode calibrate`: an int8 network from a checkpoint, and from images that show the range of every tensor.

MXNet quantizes the fused graph: convolutions and dense layers compute in int8, with a scale for each output channel of
a weight and one for each activation. An activation's range is what the calibration images reach ('minmax'), or what
keeps the relative entropy between both distributions smallest ('entropy'; Migacz, "8-bit Inference with TensorRT", GTC
2017). Where accuracy falls too far, layers are put back to float32, those first whose int8 form moves the logits most.
"""

import hashlib
import importlib.util
import itertools
import json
import warnings
from types import SimpleNamespace

import numpy as np

from data import calibration_records
from imagenet.checkpoints.parameters import named_parameters, write_arrays
from imagenet.common.errors import UserError
from imagenet.common.files import check_new, file_sha256, write_atomically, write_json
from imagenet.datasets.records import RecordFile
from imagenet.inference.fused_graph import inference_graph, network_of, relative_difference
from imagenet.inference.int8_network import int8_files, int8_prefix, names_of_classes
from imagenet.inference.metadata import describe_input, network_options, output_prefix
from imagenet.input_pipeline.transforms import as_network_input, evaluation_images
from imagenet.runtime import processor
from imagenet.runtime.compat import load_quantization, mx
from imagenet.runtime.seeds import derive_seed
from models import build_inference_model, build_unfused

# In the words of `--calib-mode`, MXNet's.
CALIBRATION_MODES = {'minmax': 'naive', 'entropy': 'entropy'}
# A constant, so that ranges do not depend on `--batch-size`; and small, since histograms are made of whole activations.
BATCH_SIZE = 16
RANKING_BATCHES = 4
CALIBRATION_STREAM = 2
# oneDNN's fused convolutions and dense layers, whose second input is the weight.
LAYER_OPERATORS = ('_sg_mkldnn_conv', '_sg_mkldnn_fully_connected')
ON_ACTIVATIONS = {'quantized_dtype': 'auto', 'quantize_mode': 'full', 'quantize_granularity': 'channel-wise'}


def add_quantization_args(parser):
    group = parser.add_argument_group('Quantization', 'What --mode calibrate makes an int8 network with')
    group.add_argument(
        '--calib-images',
        type=int,
        default=500,
        help='images that the ranges of activations are measured with: of --data-train, evenly spread over it, or of '
        '--data-val where there is no such file (default: %(default)s)',
    )
    group.add_argument(
        '--calib-mode',
        choices=tuple(CALIBRATION_MODES),
        default='minmax',
        help='minmax: smallest and largest value; entropy: what tells the distributions least apart, which takes '
        'longer (default: %(default)s)',
    )
    group.add_argument(
        '--max-drop',
        type=float,
        default=0.005,
        help='put layers back to float32 until int8 loses no more top-1 than this fraction (default: %(default)s)',
    )
    return group


def check_quantization_args(args):
    """Raises `UserError` for options that cannot be, or contradict each other; the device has to be known."""
    if int8_prefix(args.load) is not None:
        _check_int8_request(args)
    if args.mode != 'calibrate':
        return
    if args.device != 'cpu':
        raise UserError('--mode calibrate: int8 networks are for a CPU; add --device cpu')
    if args.calib_images < 1:
        raise UserError(f'--calib-images {args.calib_images}: needed is at least 1')
    if not 0 <= args.max_drop <= 1:
        raise UserError(f'--max-drop {args.max_drop:g}: needed is 0 to 1, a fraction')
    if args.calib_mode == 'entropy' and importlib.util.find_spec('scipy') is None:
        raise UserError('--calib-mode entropy needs SciPy: run scripts/setup.sh, or use --calib-mode minmax')
    check_new(int8_files(_prefix(args)))


def _check_int8_request(args):
    if args.mode not in ('val', 'pred'):
        raise UserError(f'--load {args.load}: an int8 network is for --mode val and pred; use the checkpoint behind it')
    if args.device != 'cpu' or len(args.gpus) > 1:
        raise UserError(f'--load {args.load}: an int8 network runs on a CPU, one per process; add --device cpu')


def _prefix(args):
    return f'{output_prefix(args)}-int8'


def calibrate(args, devices, val_data, log):
    """Makes the int8 network, compares it with the float32 one on the validation set, and writes it.

    Raises:
        UserError: a file cannot be read or written.
    """
    digest = hashlib.sha256()
    plain = build_unfused(args)
    quantizer = Quantizer(plain, args, _hashed(calibration_batches(args), digest))
    source = 'synthetic images' if args.data_backend == 'synthetic' else f'images of {calibration_records(args)[0]}'
    log.say(f'calibrated with {args.calib_images} {source}: {len(quantizer.layers)} layers')
    expected, labels = predicted_classes(build_inference_model(args, devices)[0], val_data, args, log, 'float32')
    in_float32, candidates = [], None
    while True:
        symbol, arrays = quantizer.quantize(in_float32)
        found, _ = predicted_classes(network_of(symbol, arrays), val_data, args, log, 'int8')
        quality = compare_predictions(expected, found, labels)
        log.say(
            f'top-1 {quality["top1_float32"]:.4f} in float32, {quality["top1_int8"]:.4f} in int8; '
            f'{100 * quality["agreement"]:.2f} % of {len(labels)} predictions agree'
        )
        if quality['top1_float32'] - quality['top1_int8'] <= args.max_drop or len(in_float32) == len(quantizer.layers):
            break
        if candidates is None:
            candidates = rank_layers(quantizer, plain, args, log)
        in_float32.append(candidates.pop(0))
        log.say(f'{in_float32[-1]} goes back to float32')
    calibration = {'images': args.calib_images, 'of': source, 'mode': args.calib_mode, 'sha256': digest.hexdigest()}
    validation = {**quality, 'instruction_set': processor.instruction_set().name}
    write_int8(args, symbol, arrays, {'calibration': calibration, 'validation': validation, 'in_float32': in_float32})
    log.say(f'wrote {_prefix(args)}: use it with --load {_prefix(args)} and --mode val or pred')


def calibration_batches(args):
    """Yields the calibration images in the form that the network takes, some at a time."""
    numbers = range(args.calib_images)
    if args.data_backend == 'synthetic':
        random = np.random.RandomState(derive_seed(args.seed, CALIBRATION_STREAM))
        images = (random.standard_normal((3, *args.image_shape[1:])).astype(np.float32) for _ in numbers)
    else:
        images = _images_of_records(args)
    while True:
        batch = list(itertools.islice(images, BATCH_SIZE))
        if not batch:
            return
        yield as_network_input(mx.nd.array(np.stack(batch)), args)


def _images_of_records(args):
    records = RecordFile(*calibration_records(args))
    # Files are often sorted by class.
    numbers = np.linspace(0, len(records) - 1, args.calib_images).round().astype(int)
    return evaluation_images(records, numbers.tolist(), args)


def _hashed(batches, digest):
    for batch in batches:
        digest.update(batch.asnumpy().tobytes())
        yield batch


class Quantizer:
    """Makes int8 graphs of a network on the CPU that is written with separate operators.

    Args:
        args: options with `calib_mode` and `image_shape`.
        batches: the calibration images, of which it takes the ranges of all activations.

    Attributes:
        layers: what can be computed in int8 or in float32: the canonical names of their weights, in the graph's order.
    """

    def __init__(self, net, args, batches):
        self._mxnet = load_quantization()
        symbol, arrays = inference_graph(net, args)
        self._graph = symbol.get_backend_symbol('MKLDNN_QUANTIZE')
        self._weights = {name: arrays[name] for name in symbol.list_arguments() if name != 'data'}
        self._statistics = {name: arrays[name] for name in symbol.list_auxiliary_states()}
        self._nodes = self._find_layers({param.name: name for name, param in named_parameters(net).items()})
        self.layers = list(self._nodes)
        self._ranges = SimpleNamespace(min_max_dict=self._measure_ranges(batches, CALIBRATION_MODES[args.calib_mode]))

    def _find_layers(self, canonical):
        nodes = self._operators()
        return {canonical[inputs[1]]: name for name, (operator, inputs) in nodes.items() if operator in LAYER_OPERATORS}

    def _operators(self):
        """(operator, names of its inputs) by name, each behind those that it gets something from."""
        nodes = json.loads(self._graph.tojson())['nodes']
        return {
            node['name']: (node['op'], [nodes[index]['name'] for index, *_ in node['inputs']])
            for node in nodes
            if node['op'] != 'null'
        }

    def _measure_ranges(self, batches, mode):
        """Smallest and largest value of each tensor that will be quantized, by its name."""
        *_, collector = self._quantize_graph([], mode)
        net = network_of(self._graph, {**self._weights, **self._statistics})
        net.hybridize(static_alloc=False, static_shape=False)
        net.register_op_hook(lambda name, _, array: collector.collect(name, array), monitor_all=True)
        with warnings.catch_warnings():
            # That hooks may not work in static graphs, which this is none of.
            warnings.simplefilter('ignore')
            for batch in batches:
                net(batch).wait_to_read()
        if mode == 'naive':
            return collector.min_max_dict
        # Once for all graphs, where `calib_graph` would do it again for each.
        return self._mxnet._get_optimal_thresholds(collector.hist_dict, ON_ACTIVATIONS['quantized_dtype'])

    def _quantize_graph(self, nodes_in_float32, mode):
        return self._mxnet.quantize_graph(
            self._graph,
            self._weights,
            self._statistics,
            excluded_sym_names=nodes_in_float32,
            calib_mode=mode,
            **ON_ACTIVATIONS,
        )

    def _nodes_in_float32(self, layers):
        """Those of the layers, and what pools or adds nothing but their outputs: int8 would win nothing there."""
        found = {self._nodes[name] for name in layers}
        operators = self._operators()
        for name, (operator, inputs) in operators.items():
            sources = [source for source in inputs if source in operators]
            if operator not in LAYER_OPERATORS and sources and found.issuperset(sources):
                found.add(name)
        return sorted(found)

    def quantize(self, in_float32):
        """The graph, and its arrays by name, with these layers as they were."""
        symbol, *_ = self._quantize_graph(self._nodes_in_float32(in_float32), 'none')
        symbol, weights, statistics = self._mxnet.calib_graph(
            symbol, self._weights, self._statistics, self._ranges, calib_mode='customize', logger=None
        )
        # Scaling back to float32, and the ranges of what comes out, become part of the layers themselves.
        symbol = symbol.get_backend_symbol('MKLDNN_QUANTIZE')
        return symbol, {**weights, **statistics}


def predicted_classes(net, data, args, log, name):
    """The likeliest class of the examples of a validation set, and their labels: two integer arrays `(N,)`."""
    data.reset(epoch=0)
    found, labels = [], []
    steps = min(len(data), args.benchmark_iters or len(data))
    with log.progress(steps, f'validation in {name}') as bar:
        for (batch,) in itertools.islice(data, steps):
            counted = data.batch_size - batch.pad
            found.append(net(batch.data[0]).asnumpy()[:counted].argmax(axis=1))
            labels.append(batch.label[0].asnumpy()[:counted].astype(int))
            bar.update()
    return np.concatenate(found), np.concatenate(labels)


def compare_predictions(expected, found, labels):
    """Accuracies as fractions, and the fraction of the examples that both networks give the same class."""
    return {
        'examples': len(labels),
        'top1_float32': float(np.mean(expected == labels)),
        'top1_int8': float(np.mean(found == labels)),
        'agreement': float(np.mean(expected == found)),
    }


def rank_layers(quantizer, net, args, log):
    """All layers, those first without whose int8 form the logits come nearest to the network's."""
    images = list(itertools.islice(calibration_batches(args), RANKING_BATCHES))
    expected = np.concatenate([net(batch).asnumpy() for batch in images])
    differences = {}
    with log.progress(len(quantizer.layers), 'ranking layers') as bar:
        for name in quantizer.layers:
            without = network_of(*quantizer.quantize([name]))
            differences[name] = relative_difference(
                np.concatenate([without(batch).asnumpy() for batch in images]), expected
            )
            bar.update()
    return sorted(quantizer.layers, key=differences.get)


def write_int8(args, symbol, arrays, results):
    """Writes graph, parameters and, at last, what tells that they are whole and what they are."""
    symbol_path, array_path, description_path = int8_files(_prefix(args))
    write_atomically(symbol_path, lambda temporary: symbol.save(str(temporary)))
    needed = {name: arrays[name] for name in symbol.list_inputs() if name != 'data'}
    write_arrays(array_path, needed)
    description = {
        'made_from': {'file': str(args.load), 'sha256': file_sha256(args.load)},
        'network': network_options(args),
        **results,
        **describe_input(args, names_of_classes(args)),
        'files': {path.name: file_sha256(path) for path in (symbol_path, array_path)},
    }
    write_json(description_path, description)
