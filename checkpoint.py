"""Parameters on disk.

A file holds float32 arrays under names that follow from the network's structure (`features.3.0.body.0.weight`), weights
as (out, in, height, width), three input channels. Whatever trained it, anything can load it: layouts, fusion, precision
and a fourth input channel are a matter of the network in memory.

Files that the original of this package wrote are read, too: see `import_arrays`.
"""

import json
import struct
from pathlib import Path

from compat import mx
from errors import UserError
from files import write_atomically

# The first 8 bytes of MXNet's parameter files (kMXAPINDArrayListMagic in its ndarray.cc).
PARAMETER_FILE_MAGIC = struct.pack('<Q', 0x112)
NAMES_SHOWN = 3
# The convolution that sees the image, in every architecture.
INPUT_WEIGHT = 'features.0.weight'
IMAGE_CHANNELS = 3


def named_parameters(net):
    """The network's parameters by canonical name, running statistics included."""
    return net._collect_params_with_prefix()


def to_canonical(name, array, weight_layout):
    """An array as it is on disk.

    Args:
        name: its canonical name.
        array: a parameter's values, any precision.
        weight_layout: 'NCHW' where a convolution's weight is (out, in, height, width), 'NHWC' where in comes last.
    """
    if array.ndim == 4 and weight_layout == 'NHWC':
        array = array.transpose((0, 3, 1, 2))
    if name == INPUT_WEIGHT:
        array = array[:, :IMAGE_CHANNELS]
    return array.astype('float32')


def from_canonical(name, array, net):
    """An array as `net` wants it: the inverse of `to_canonical`, a fourth input channel filled with zeros."""
    if name == INPUT_WEIGHT and net.input_channels > IMAGE_CHANNELS:
        extra = (array.shape[0], net.input_channels - IMAGE_CHANNELS, *array.shape[2:])
        array = mx.nd.concat(array, mx.nd.zeros(extra), dim=1)
    if array.ndim == 4 and net.weight_layout == 'NHWC':
        array = array.transpose((0, 2, 3, 1))
    return array


def canonical_shapes(net):
    """The shape that each of a network's parameters has on disk, by name."""
    shapes = {}
    for name, param in named_parameters(net).items():
        shape = param.shape
        if len(shape) == 4 and net.weight_layout == 'NHWC':
            shape = (shape[0], shape[3], *shape[1:3])
        shapes[name] = (shape[0], IMAGE_CHANNELS, *shape[2:]) if name == INPUT_WEIGHT else shape
    return shapes


def set_canonical(net, arrays):
    """Sets parameters, which must be initialised, to canonical arrays by name."""
    params = named_parameters(net)
    for name, array in arrays.items():
        params[name].set_data(from_canonical(name, array, net).astype(params[name].dtype))


def canonical_arrays(net):
    """Copies of the network's values in canonical form, by name; MXNet makes them when it comes to it."""
    return {
        name: to_canonical(name, param.data(param.list_ctx()[0]), net.weight_layout).as_in_context(mx.cpu())
        for name, param in named_parameters(net).items()
    }


def write_arrays(path, arrays):
    """Writes a parameter file, atomically.

    Raises:
        UserError: it cannot be written.
    """

    def write(temporary):
        try:
            mx.nd.save(str(temporary), arrays)
            # MXNet does not say when the disk takes all but the end of a file: only reading it back tells.
            mx.nd.load(str(temporary))
        except mx.base.MXNetError:
            raise UserError(f'{path}: cannot write all of this file (is the disk full?)') from None

    write_atomically(path, write)


def load_parameters(net, path):
    """Sets the network's parameters, which must be initialised, to the values of a file.

    Raises:
        UserError: the file cannot be read, or belongs to another network; the first differences are named.
    """
    arrays = import_arrays(read_arrays(path), net, path)
    expected = canonical_shapes(net)
    missing = [name for name in expected if name not in arrays]
    left_over = [name for name in arrays if name not in expected]
    misshapen = [
        f'{name} {arrays[name].shape} instead of {shape}'
        for name, shape in expected.items()
        if name in arrays and arrays[name].shape != shape
    ]
    found = {'missing': missing, 'left over': left_over, 'of another shape': misshapen}
    differences = [f'{len(names)} {what} ({_first(names)})' for what, names in found.items() if names]
    if differences:
        raise UserError(f'--load {path}: parameters of another network: {"; ".join(differences)}')
    set_canonical(net, arrays)


def _first(names):
    return ', '.join(names[:NAMES_SHOWN]) + (', …' if len(names) > NAMES_SHOWN else '')


def read_arrays(path):
    """A parameter file's arrays by name.

    Raises:
        UserError: the file is missing, or not a parameter file, or damaged.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            magic = file.read(len(PARAMETER_FILE_MAGIC))
    except OSError as error:
        raise UserError(f'--load {path}: cannot read this file ({error.strerror})') from None
    if magic != PARAMETER_FILE_MAGIC:
        raise UserError(f'--load {path}: not an MXNet parameter file; name a .params file that a training run saved')
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError:
        raise UserError(f'--load {path}: this parameter file is damaged; use another checkpoint') from None
    if not isinstance(arrays, dict):
        raise UserError(f'--load {path}: its arrays have no names; name a .params file that a training run saved')
    return arrays


def count_classes(path):
    """The number of classes of the network that a parameter file belongs to; None where it does not say."""
    matrices = [array for array in read_arrays(path).values() if array.ndim == 2]
    return matrices[0].shape[0] if len(matrices) == 1 else None


def import_arrays(arrays, net, path):
    """Canonical arrays from any file that this package or its original wrote.

    The original's names depend on how a network was built: they may start with `_net.`, a batch norm may have a
    place of its own below its BN-ReLU (`features.1.0.gamma`, `bn_add_relu.bn.gamma`), and a transpose may have taken
    one (`features.0.1.weight`). Weights may be (out, height, width, in), float16, and for four input channels. A
    symbol's parameters (`prefix-0000.params`, with `prefix-symbol.json` beside it) are matched by their place in the
    graph.

    What fits nothing keeps its name and shape, for `load_parameters` to complain of.
    """
    expected = canonical_shapes(net)
    if all(name.startswith(('arg:', 'aux:')) for name in arrays):
        renamed = _match_symbol(arrays, net, path)
    else:
        renamed = {_canonical_name(name, expected): array for name, array in arrays.items()}
    in_layout = {
        layout: {name: to_canonical(name, array, layout) for name, array in renamed.items()}
        for layout in ('NCHW', 'NHWC')
    }

    def fits(layout):
        return all(array.shape == expected.get(name, array.shape) for name, array in in_layout[layout].items())

    # One file has one layout: some weights look alike in both, and do not tell.
    return in_layout['NHWC' if fits('NHWC') and not fits('NCHW') else 'NCHW']


def _canonical_name(name, expected):
    name = name[len('_net.') :] if name.startswith('_net.') else name
    *parents, own_place, leaf = name.replace('.bn.', '.').split('.')
    candidates = ('.'.join((*parents, own_place, leaf)), '.'.join((*parents, leaf)))
    return next((candidate for candidate in candidates if candidate in expected), name)


def _match_symbol(arrays, net, path):
    """A symbol's arrays under canonical names.

    Raises:
        UserError: the symbol file is missing, or is of another network.
    """
    symbol_path = Path(f'{str(path)[: str(path).rfind("-")]}-symbol.json')
    try:
        theirs = _parameters_in_graph_order(symbol_path.read_text(), {name[len('arg:') :] for name in arrays})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--load {path}: a symbol's parameters; {symbol_path} is needed beside them, and cannot be read ({error})"
        ) from None
    canonical = {param.name: name for name, param in named_parameters(net).items()}
    ours = _parameters_in_graph_order(net(mx.sym.var('data')).tojson(), set(canonical))
    if [len(layer) for layer in theirs] != [len(layer) for layer in ours]:
        raise UserError(
            f'--load {path}: parameters of another network: {symbol_path} has {len(theirs)} layers with parameters, '
            f'--arch and --num-layers give {len(ours)}'
        )
    values = {name[len('arg:') :]: array for name, array in arrays.items()}
    return {
        canonical[our_name]: values[their_name]
        for our_layer, their_layer in zip(ours, theirs)
        for our_name, their_name in zip(our_layer, their_layer)
    }


def _parameters_in_graph_order(symbol_json, names):
    """The names of the parameters of each operator, as a list of lists.

    Operators come in the order in which the graph first reaches a parameter of theirs: unlike the order of the
    operators themselves, it is the same for fused and separate ones.
    """
    nodes = json.loads(symbol_json)['nodes']
    layers = []
    for node in nodes:
        sources = [index for index, *_ in node['inputs']]
        inputs = [index for index in sources if nodes[index]['op'] == 'null' and nodes[index]['name'] in names]
        if inputs:
            layers.append(inputs)
    return [[nodes[index]['name'] for index in layer] for layer in sorted(layers)]
