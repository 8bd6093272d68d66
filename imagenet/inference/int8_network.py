"""Loads an int8 network that `--mode calibrate` wrote."""

from pathlib import Path

from imagenet.checkpoints.description import PADDING_BEFORE
from imagenet.checkpoints.parameters import read_arrays
from imagenet.checkpoints.symbol_file import read_symbol
from imagenet.common.errors import UserError
from imagenet.common.files import file_sha256
from imagenet.common.options import as_text, option_name
from imagenet.inference.export import NotExportableError
from imagenet.inference.fused_graph import network_of
from imagenet.reporting.json_files import read_json
from imagenet.runtime.compat import mx

SCHEMA = Path(__file__).resolve().with_name('int8_schema.json')
ADVICE = 'make it with --mode calibrate'


def int8_files(prefix):
    """Return the files of an int8 network: its graph, its parameters, the ONNX file, and the description of all."""
    return tuple(Path(f'{prefix}{ending}') for ending in ('-symbol.json', '.params', '.onnx', '.json'))


def read_int8_description(prefix):
    """Return the description that calibration.py wrote.

    Raises:
        UserError: the description is missing or does not describe an int8 network.
    """
    path = int8_files(prefix)[-1]
    subject, kind = f'--load {prefix}: {path}', 'a description of an int8 network'
    description = read_json(path, SCHEMA, kind, subject, ADVICE)
    num_names, num_classes = len(description['classes']), description['network']['num_classes']
    if num_names != num_classes:
        raise UserError(f'{subject}: not {kind} ({num_names} names of {num_classes} classes); {ADVICE}')
    return description


def load_int8(prefix, wanted):
    """Load an int8 network.

    Args:
        wanted: the `NetworkDescription` from the options.

    Raises:
        UserError: its files are missing, damaged or of different networks, or the options describe another network.
    """
    symbol_path, array_path, *_ = int8_files(prefix)
    _check_files(prefix, (symbol_path, array_path), wanted)
    read_symbol(symbol_path, f'--load {prefix}: {symbol_path}', ADVICE)
    arrays = read_arrays(array_path)
    try:
        symbol = mx.sym.load(str(symbol_path))
        outputs = _output_shapes(symbol, arrays, wanted)
    except (KeyError, mx.base.MXNetError):
        outputs = None
    if outputs != [(1, wanted.num_classes)]:
        raise UserError(f'--load {prefix}: {symbol_path} and {array_path} do not fit together; {ADVICE}')
    return network_of(symbol, arrays)


def read_int8_model(prefix, wanted):
    """Return the bytes of the ONNX file of an int8 network, for the engines other than MXNet.

    Raises:
        NotExportableError: there is no such file, because an earlier version made the network, or one without ONNX.
        UserError: it is damaged or of another network, or the options describe another network.
    """
    path = int8_files(prefix)[2]
    if path.name not in read_int8_description(prefix)['files']:
        raise NotExportableError(f'--load {prefix}: has no {path.name} for engines other than mxnet; {ADVICE} again')
    _check_files(prefix, (path,), wanted)
    return path.read_bytes()


def _check_files(prefix, paths, wanted):
    """Raise `UserError` if files are missing, damaged or of another network, or the options describe another one."""
    description = read_int8_description(prefix)
    theirs, ours = {'padding': PADDING_BEFORE, **description['network']}, wanted.as_json()
    different = [
        f'{option_name(name)} {as_text(ours[name])} instead of {as_text(theirs[name])}'
        for name in ours
        if ours[name] != theirs[name]
    ]
    if different:
        raise UserError(f'--load {prefix}: an int8 file of another network: {"; ".join(different)}')
    for path in paths:
        if not path.exists() or file_sha256(path) != description['files'].get(path.name):
            raise UserError(f'--load {prefix}: {path} is missing, damaged or of another network; {ADVICE}')


def _output_shapes(symbol, arrays, wanted):
    """Return the shapes of a graph's outputs for one image.

    Raises:
        KeyError: an array is missing.
        mxnet.base.MXNetError: the arrays' shapes or types do not fit the graph.
    """
    needed = {name: arrays[name] for name in symbol.list_inputs() if name != 'data'}
    channels, height, width = wanted.image_shape
    image = (channels, height, width) if wanted.input_layout == 'NCHW' else (height, width, channels)
    symbol.infer_type(data='float32', **{name: array.dtype for name, array in needed.items()})
    _, outputs, _ = symbol.infer_shape(data=(1, *image), **{name: array.shape for name, array in needed.items()})
    return outputs
