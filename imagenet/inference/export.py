"""`--mode export`: a checkpoint as files for other programs, MXNet's own pair or ONNX, compared with what it computes.

The network is written in float32 for images `(N, 3, H, W)` of any N, with separate operators, which every MXNet has.
"""

import importlib.util
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np

from imagenet.checkpoints.parameters import write_arrays
from imagenet.common.errors import UserError
from imagenet.common.files import check_new, file_sha256, write_json
from imagenet.datasets.decoding import RGB_CHANNELS
from imagenet.datasets.records import RecordFile, index_path
from imagenet.inference.fused_graph import arrays_in_graph, network_of, relative_difference
from imagenet.inference.int8_network import names_of_classes
from imagenet.inference.metadata import describe_input, network_options, output_prefix
from imagenet.input_pipeline.transforms import evaluation_images
from imagenet.runtime.compat import load_onnx_exporter, mx
from models import build_unfused

COMPARED_IMAGES = 8
# Of the logits' norm: other programs add up in another order than oneDNN.
TOLERANCE = 1e-4
ONNX_PACKAGES = ('onnx', 'onnxruntime')


def add_export_args(parser):
    group = parser.add_argument_group('Export')
    group.add_argument(
        '--format',
        choices=tuple(FORMATS),
        default='symbol',
        help="what --mode export writes: MXNet's symbol and parameters, or ONNX (default: %(default)s)",
    )
    return group


def check_export_args(args):
    """Raises `UserError` for files that exist or cannot be written, and for packages that are missing."""
    if args.mode != 'export':
        return
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if args.format == 'onnx' and missing:
        raise UserError(f'--format onnx needs {" and ".join(missing)}: pip install -r requirements/onnx.txt')
    check_new(exported_files(args))


def exported_files(args):
    return [Path(f'{output_prefix(args)}{ending}') for ending in FORMATS[args.format].endings]


def export(args):
    """Writes the network of `--load`, runs what was written, and only then gives it its name.

    Raises:
        UserError: a file cannot be read or written, or the files compute something else.
    """
    # As every program can take it, whatever this machine has.
    form = {f'{name}_layout': 'NCHW' for name in ('input', 'conv', 'batchnorm', 'pooling')}
    vars(args).update(form, image_shape=(RGB_CHANNELS, *args.image_shape[1:]))
    net = build_unfused(args)
    images, source = images_to_compare(args)
    paths = exported_files(args)
    with tempfile.TemporaryDirectory(dir=paths[0].parent, prefix='.export-') as folder:
        *written, description = (Path(folder) / path.name for path in paths)
        FORMATS[args.format].write(net, written, args.image_shape)
        difference = compare(net, FORMATS[args.format].run(written), images)
        write_json(description, describe(args, difference, source))
        for path in paths:
            (Path(folder) / path.name).replace(path)
    print(f'wrote {", ".join(map(str, paths))}')
    print(f'its logits for {len(images)} {source} differ by {difference:.1e} of their norm')


def images_to_compare(args):
    """Some images `(N, 3, H, W)` as evaluation has them, and what they are: random ones where there are no records."""
    if args.data_val is None or not args.data_val.exists():
        shape = (COMPARED_IMAGES, *args.image_shape)
        return np.random.RandomState(0).standard_normal(shape).astype(np.float32), 'random images'
    records = RecordFile(args.data_val, index_path(args.data_val, args.data_val_idx))
    numbers = range(min(COMPARED_IMAGES, len(records)))
    return np.stack(list(evaluation_images(records, numbers, args))), f'images of {args.data_val}'


def compare(net, run, images):
    """The largest difference of logits, as a part of their norm, over batches of several sizes.

    Args:
        run: a function from images to logits, both NumPy arrays.

    Raises:
        UserError: it is too large.
    """
    expected = net(mx.nd.array(images)).asnumpy()
    difference = max(relative_difference(run(images[:size]), expected[:size]) for size in (1, len(images)))
    if not difference < TOLERANCE:
        raise UserError(f'--mode export: the logits of what was written differ by {difference:.1e} of their norm')
    return difference


def describe(args, difference, source):
    return {
        'made_from': {'file': str(args.load), 'sha256': file_sha256(args.load)},
        'network': network_options(args),
        'compared': {'with': source, 'relative_difference': difference},
        **describe_input(args, names_of_classes(args)),
    }


def write_symbol(net, paths, image_shape):
    symbol = net(mx.sym.var('data'))
    symbol.save(str(paths[0]))
    # In MXNet's own files, what is learned is called an argument, and statistics are auxiliary.
    kinds = {**dict.fromkeys(symbol.list_arguments(), 'arg'), **dict.fromkeys(symbol.list_auxiliary_states(), 'aux')}
    write_arrays(paths[1], {f'{kinds[name]}:{name}': array for name, array in arrays_in_graph(net).items()})


def run_symbol(paths):
    arrays = {name.split(':', 1)[1]: array for name, array in mx.nd.load(str(paths[1])).items()}
    net = network_of(mx.sym.load(str(paths[0])), arrays)
    return lambda images: net(mx.nd.array(images)).asnumpy()


def write_onnx(net, paths, image_shape):
    load_onnx_exporter().export_model(
        net(mx.sym.var('data')),
        arrays_in_graph(net),
        in_shapes=[(1, *image_shape)],
        in_types=[np.float32],
        onnx_file_path=str(paths[0]),
        dynamic=True,
        dynamic_input_shapes=[(None, *image_shape)],
    )
    _make_parameters_constant(paths[0])


def _make_parameters_constant(path):
    """MXNet lists parameters among the inputs, too, which keeps a runtime from folding batch norm into convolutions."""
    import onnx

    model = onnx.load(str(path))
    constants = {array.name for array in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def run_onnx(paths):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(paths[0]), providers=['CPUExecutionProvider'])
    return lambda images: session.run(None, {'data': images})[0]


# endings: of the files' names, behind what `-o` says; the last one is the description's.
# write: a function of (network, paths, image shape); run: from paths to a function from images to logits.
Format = namedtuple('Format', 'endings write run')
FORMATS = {
    'symbol': Format(('-symbol.json', '-0000.params', '-symbol-about.json'), write_symbol, run_symbol),
    'onnx': Format(('.onnx', '-onnx-about.json'), write_onnx, run_onnx),
}
