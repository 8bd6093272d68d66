"""`--mode export`: writes a checkpoint for other programs, as MXNet's pair of files or ONNX, and checks the result.

The network is written in float32, for images `(N, 3, H, W)` with any N, with separate operators, which every MXNet has.
"""

import importlib.util
from collections import namedtuple
from pathlib import Path

import numpy as np

from imagenet.checkpoints.parameters import write_arrays
from imagenet.checkpoints.trailer import append_trailer
from imagenet.common.errors import UserError
from imagenet.common.files import check_new, temporary_folder, write_json
from imagenet.datasets.records import RecordFile
from imagenet.inference.fused_graph import arrays_in_graph, network_of, relative_difference
from imagenet.input_pipeline.transforms import evaluation_images
from imagenet.runtime.compat import load_onnx_exporter, mx

COMPARED_IMAGES = 8
# Relative to the logits' norm: other programs sum in a different order than oneDNN.
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


def check_export(prefix, format_name):
    """Raise `UserError` if files exist or cannot be written, or packages are missing."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if format_name == 'onnx' and missing:
        raise UserError(f'--format onnx needs {" and ".join(missing)}: pip install -r requirements/onnx.txt')
    check_new(exported_files(prefix, format_name))


def exported_files(prefix, format_name):
    return [Path(f'{prefix}{ending}') for ending in FORMATS[format_name].endings]


def export(net, prefix, format_name, images, source, description, options):
    """Write a network to temporary files, compare their logits with the network's, then rename them.

    Args:
        net: the float32 network on the CPU, with separate operators, for images `(N, 3, H, W)`.
        prefix: the start of the file names.
        images: array `(N, 3, H, W)`, used to compare logits.
        source: a description of these images.
        description: description of the network and its input, for the JSON.
        options: what parameter files say about their network; see description.py.

    Raises:
        UserError: a file cannot be written, or the logits differ.
    """
    paths = exported_files(prefix, format_name)
    with temporary_folder(paths[0]) as folder:
        *written, about = (folder / path.name for path in paths)
        FORMATS[format_name].write(net, written, images.shape[1:])
        for path in written:
            if path.suffix == '.params':
                append_trailer(path, options)
        difference = compare(net, FORMATS[format_name].run(written), images)
        write_json(about, {**description, 'compared': {'with': source, 'relative_difference': difference}})
        for path in paths:
            (folder / path.name).replace(path)
    print(f'wrote {", ".join(map(str, paths))}')
    print(f'its logits for {len(images)} {source} differ by {difference:.1e} of their norm')


def images_to_compare(records, evaluation):
    """Return some images `(N, 3, H, W)`, prepared as in evaluation, and a description of them.

    Args:
        records: (record file, index) of a validation set; None for random images.
        evaluation: `EvaluationOptions`.
    """
    if records is None:
        shape = (COMPARED_IMAGES, *evaluation.image_shape)
        return np.random.RandomState(0).standard_normal(shape).astype(np.float32), 'random images'
    with RecordFile(*records) as file:
        numbers = range(min(COMPARED_IMAGES, len(file)))
        return np.stack(list(evaluation_images(file, numbers, evaluation))), f'images of {records[0]}'


def compare(net, run, images):
    """Return the largest difference of the logits, relative to their norm, over several batch sizes.

    Args:
        run: a function from images to logits, both NumPy arrays.

    Raises:
        UserError: the difference is too large.
    """
    expected = net(mx.nd.array(images)).asnumpy()
    difference = max(relative_difference(run(images[:size]), expected[:size]) for size in (1, len(images)))
    if not difference < TOLERANCE:
        raise UserError(f'--mode export: the logits of the written files differ by {difference:.1e} of their norm')
    return difference


def write_symbol(net, paths, image_shape):
    symbol = net(mx.sym.var('data'))
    symbol.save(str(paths[0]))
    # MXNet's files call learned parameters arguments, and running statistics auxiliary.
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
    """Remove the parameters from the inputs of an ONNX file.

    MXNet lists them there, too, which keeps a runtime from folding batch norm into convolutions.
    """
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


# endings: of the file names, after the value of `-o`; the last one is the description's.
# write: a function of (network, paths, image shape).
# run: a function of paths that returns a function from images to logits.
Format = namedtuple('Format', 'endings write run')
FORMATS = {
    'symbol': Format(('-symbol.json', '-0000.params', '-symbol-about.json'), write_symbol, run_symbol),
    'onnx': Format(('.onnx', '-onnx-about.json'), write_onnx, run_onnx),
}
