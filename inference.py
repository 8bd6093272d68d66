"""The network for inference: a fused graph on a CPU, an int8 network, or the network as it is.

In a fused graph, convolutions take batch norm, addition and ReLU with them. oneDNN fuses what is written with separate
operators (`optimize_for`), so a network that trains with fused blocks is built anew for inference; the parameters on
disk are the same. An int8 network is a graph with parameters of its own, which quantization.py makes.
"""

import json
import re
from pathlib import Path

import numpy as np

from build import build_model, build_separate
from class_names import data_folders, find_class_names
from compat import mx
from errors import UserError
from files import file_sha256

# Of the logits' norm: float32 in another order differs by some 1e-6 of it.
TOLERANCE = 1e-3
CHECKED_IMAGES = 2
# The second one works with what the first has left.
CHECKED_CALLS = 2
# What a graph is of; an int8 network has to be loaded with the options that it was made with.
NETWORK_OPTIONS = ('arch', 'num_layers', 'num_groups', 'num_classes', 'batchnorm_eps', 'image_shape', 'input_layout')
INT8_NAME = re.compile(r'(.+-int8)(?:-symbol\.json|\.params|\.json)?')


def add_inference_args(parser):
    group = parser.add_argument_group('Inference')
    group.add_argument(
        '--no-fuse',
        action='store_true',
        help='compute --mode val and pred with the network as it is, and not as a fused graph (default on a CPU)',
    )
    group.add_argument(
        '-o',
        '--output',
        type=Path,
        help='where --mode pred writes what it finds, .csv or .json (default: only print it); for --mode calibrate and '
        'export, what the names of their files begin with (default: the name of --load without its ending)',
    )
    return group


def build_inference_model(args, devices):
    """The network of `--mode val` and `pred`: int8 where `--load` names such a one, else fused where that can be.

    Returns:
        It, and a line for the log or None.

    Raises:
        UserError: `--load` does not fit.
    """
    prefix = int8_prefix(args.load)
    if prefix is not None:
        return load_int8(args, prefix), None
    net, note = None, None
    if args.device == 'cpu' and len(devices) == 1 and not (args.no_fuse or args.amp):
        net, note = build_fused(args)
    return net or build_model(args, devices), note


def build_fused(args):
    """The network of `args` on the CPU as a fused graph, once its logits have been compared with the plain network's.

    Returns:
        (network, None), or (None, a line about why it is not fused).

    Raises:
        UserError: `--load` does not fit.
    """
    net = build_separate(args)
    images = example_images(args)
    expected = net(images).asnumpy()
    symbol, arrays = inference_graph(net, args)
    fused = network_of(symbol.get_backend_symbol('MKLDNN'), arrays)
    for _ in range(CHECKED_CALLS):
        difference = relative_difference(fused(images).asnumpy(), expected)
    if not difference < TOLERANCE:
        return None, f'the fused network differs by {difference:.2g} of the logits: it is computed as it is'
    return fused, None


def example_images(args):
    """Some random images as the network takes them; always the same."""
    channels, height, width = args.image_shape
    shape = (CHECKED_IMAGES, channels, height, width)
    if args.input_layout == 'NHWC':
        shape = (CHECKED_IMAGES, height, width, channels)
    return mx.nd.array(np.random.RandomState(0).standard_normal(shape), dtype='float32')


def relative_difference(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def inference_graph(net, args):
    """A float32 network's graph on the variable `data`, and its parameters by the names that they have there.

    It is the network without what cannot run from call to call in oneDNN's own formats: the cast to float32 at its end,
    and the pooling of a single pixel, where that is all that small images leave.
    """
    symbol = net(mx.sym.var('data')).get_children()
    pixels = symbol.get_children()[0].get_children()
    _, (shape,), _ = pixels.infer_shape(data=example_images(args).shape)
    if shape[2:] == (1, 1):
        symbol = net.output(pixels)
    return symbol, arrays_in_graph(net)


def arrays_in_graph(net):
    """A network's parameters by the names that they have in its graph."""
    return {param.name: param.data() for param in net.collect_params().values()}


def network_of(symbol, arrays):
    """A graph on the variable `data` as a network.

    Args:
        arrays: its parameters by name; others are left out of account.
    """
    net = mx.gluon.SymbolBlock(symbol, [mx.sym.var('data', dtype='float32')])
    for name, param in net.collect_params().items():
        param.shape, param.dtype = arrays[name].shape, arrays[name].dtype
        # Of any precision, int8 too, which MXNet has no random numbers of.
        param.initialize(init=mx.init.Zero(), ctx=mx.cpu())
        param.set_data(arrays[name])
    # With static shapes: without, oneDNN's primitives are made anew in each call, which takes longer than an image.
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def names_of_classes(args):
    """Of the network of `--load`: its own where it is int8, else those beside it, of the data, or ImageNet's."""
    prefix = int8_prefix(args.load)
    if prefix is not None:
        return read_int8_description(prefix)['classes']
    return find_class_names([Path(args.load).parent, *data_folders(args)], args.num_classes)


def network_options(args):
    """What tells this network from others, as JSON has it."""
    options = {name: getattr(args, name) for name in NETWORK_OPTIONS}
    return {**options, 'image_shape': list(args.image_shape)}


def describe_input(args, names):
    """What whoever runs an exported graph must know: how an image becomes its input, and what its output means.

    Args:
        names: of the classes.
    """
    return {
        'input': {
            'name': 'data',
            'dtype': 'float32',
            'layout': args.input_layout,
            'channels': 'red, green, blue' + ', 0' * (args.image_shape[0] - 3),
            'shorter_side': args.data_val_resize,
            'centre_crop': list(args.image_shape[1:]),
            'values': '(0 to 255 - mean) / std',
            'mean': list(args.rgb_mean),
            'std': list(args.rgb_std),
        },
        'output': 'logits, one for each class',
        'classes': names,
    }


def output_prefix(args):
    """What the names of files made from `--load` begin with."""
    return args.output if args.output is not None else Path(args.load).with_suffix('')


def int8_prefix(path):
    """What the names of an int8 network's three files begin with, where a path is this or one of them; else None."""
    match = INT8_NAME.fullmatch(str(path))
    return match and match.group(1)


def int8_files(prefix):
    """The files of an int8 network: its graph, its parameters, and what is known about it."""
    return tuple(Path(f'{prefix}{ending}') for ending in ('-symbol.json', '.params', '.json'))


def read_int8_description(prefix):
    """What quantization.py wrote about an int8 network.

    Raises:
        UserError: there is no such network.
    """
    path = int8_files(prefix)[2]
    try:
        description = json.loads(path.read_text(encoding='utf-8'))
        return {name: description[name] for name in ('network', 'files', 'classes')}
    except OSError as error:
        raise UserError(f'--load {prefix}: cannot read {path} ({error.strerror}); --mode calibrate makes it') from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f'--load {prefix}: {path} does not describe an int8 network') from None


def load_int8(args, prefix):
    """The int8 network of `--load`.

    Raises:
        UserError: its files are missing, damaged or of different networks, or the options ask for another network.
    """
    description = read_int8_description(prefix)
    theirs, ours = description['network'], network_options(args)
    different = [
        f'--{name.replace("_", "-")} {_shown(ours[name])} instead of {_shown(theirs.get(name))}'
        for name in ours
        if ours[name] != theirs.get(name)
    ]
    if different:
        raise UserError(f'--load {prefix}: an int8 file of another network: {"; ".join(different)}')
    symbol_path, array_path, _ = int8_files(prefix)
    for path in (symbol_path, array_path):
        if not path.exists() or file_sha256(path) != description['files'].get(path.name):
            raise UserError(f'--load {prefix}: {path} is missing, damaged or of another network; calibrate anew')
    return network_of(mx.sym.load(str(symbol_path)), mx.nd.load(str(array_path)))


def _shown(value):
    return ','.join(map(str, value)) if isinstance(value, list) else value
