"""`--mode export`: writes a checkpoint for other programs and checks the result.

These are MXNet's pair of files, ONNX, and safetensors, whose weights have the names of torchvision and timm. A network
is written in float32, for images `(N, 3, H, W)` with any N, with separate operators, which every MXNet has.
"""

import importlib.util
import os
import re
from collections import namedtuple
from pathlib import Path

import numpy as np

from imagenet.architectures.registry import ARCHITECTURES, are_equal
from imagenet.checkpoints.importers import pytorch_resnet, timm_efficientnet
from imagenet.checkpoints.loading import import_arrays
from imagenet.checkpoints.parameters import canonical_arrays, named_parameters, write_arrays
from imagenet.checkpoints.weight_file import read_weights, write_safetensors
from imagenet.common.errors import UserError
from imagenet.common.files import check_new, temporary_folder, write_json
from imagenet.datasets.records import RecordFile
from imagenet.inference.fused_graph import arrays_in_graph, network_of, relative_difference, with_padded_weights
from imagenet.input_pipeline.transforms import evaluation_images
from imagenet.runtime.compat import load_onnx_exporter, mx

COMPARED_IMAGES = 8
# Relative to the logits' norm: other programs sum in a different order than oneDNN.
TOLERANCE = 1e-4
ONNX_PACKAGES = ('onnx', 'onnxruntime')
# What MXNet's exporter says.
UNKNOWN_OPERATOR = re.compile(r'No conversion function registered for op type (\S+) yet')


class NotExportableError(UserError):
    """MXNet's exporter does not know an operator of the network."""


def add_export_args(parser):
    group = parser.add_argument_group('Export')
    group.add_argument(
        '--format',
        choices=tuple(FORMATS),
        default='symbol',
        help="what --mode export writes: MXNet's symbol and parameters, ONNX, or weights under timm's names, which are "
        "also torchvision's for a ResNet (default: %(default)s)",
    )
    return group


def check_export(prefix, format_name, arch, num_layers):
    """Raise `UserError` if files exist or cannot be written, packages are missing, or there is no such format of it."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if format_name == 'onnx' and missing:
        raise UserError(f'--format onnx needs {" and ".join(missing)}: pip install -r requirements/onnx.txt')
    if format_name == 'safetensors' and not has_pytorch_names(arch, num_layers):
        raise UserError(f'--format safetensors: timm and torchvision have no {arch} with {num_layers} layers')
    check_new(exported_files(prefix, format_name))


def has_pytorch_names(arch, num_layers):
    """Return whether timm computes the same network, given its weights."""
    architecture = ARCHITECTURES[arch]
    is_same = architecture.settings.get('stride_on_3x3', True) or are_equal(arch, 'resnetv15', num_layers)
    return architecture.family in PYTORCH_NAMES and is_same


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
        FORMATS[format_name].write(net, written, images.shape[1:], options)
        difference = compare(net, FORMATS[format_name].run(written, net), images)
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


def write_symbol(net, paths, image_shape, options):
    symbol = net(mx.sym.var('data'))
    symbol.save(str(paths[0]))
    # MXNet's files call learned parameters arguments, and running statistics auxiliary.
    kinds = {**dict.fromkeys(symbol.list_arguments(), 'arg'), **dict.fromkeys(symbol.list_auxiliary_states(), 'aux')}
    write_arrays(paths[1], {f'{kinds[name]}:{name}': array for name, array in arrays_in_graph(net).items()}, options)


def run_symbol(paths, net):
    arrays = {name.split(':', 1)[1]: array for name, array in mx.nd.load(str(paths[1])).items()}
    written = network_of(mx.sym.load(str(paths[0])), arrays)
    return lambda images: written(mx.nd.array(images)).asnumpy()


def write_onnx(net, paths, image_shape, options):
    paths[0].write_bytes(onnx_model(net, image_shape, '--format onnx'))


def onnx_model(net, image_shape, option):
    """Return the bytes of an ONNX file of a network, for images `(N, 3, H, W)` with any N.

    Args:
        image_shape: `(3, H, W)`.
        option: the option that needs it, named in the message.

    Raises:
        NotExportableError: MXNet cannot write an operator of the network.
    """
    # ONNX Runtime 1.31 fails at operators that pad a weight.
    symbol, arrays = with_padded_weights(net(mx.sym.var('data')), arrays_in_graph(net))
    # A file in memory, because a disk may be full.
    with os.fdopen(os.memfd_create('onnx'), 'rb') as file:
        try:
            load_onnx_exporter().export_model(
                symbol,
                arrays,
                in_shapes=[(1, *image_shape)],
                in_types=[np.float32],
                onnx_file_path=f'/proc/self/fd/{file.fileno()}',
                dynamic=True,
                dynamic_input_shapes=[(None, *image_shape)],
            )
        except AttributeError as error:
            operator = UNKNOWN_OPERATOR.search(str(error))
            if operator is None:
                raise
            raise NotExportableError(
                f'{option}: MXNet cannot write this network as ONNX, because of its operator {operator[1]}'
            ) from None
        return _with_names(file.read())


def _with_names(content):
    """Name the batch size of an ONNX file `N`, and leave only the images in its inputs; take and return its bytes.

    MXNet lists the parameters as inputs, too, which keeps a runtime from folding batch norm into convolutions.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    constants = {array.name for array in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = 'N'
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def run_onnx(paths, net):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(paths[0]), providers=['CPUExecutionProvider'])
    return lambda images: session.run(None, {'data': images})[0]


def write_pytorch_names(net, paths, image_shape, options):
    arrays = canonical_arrays(net)
    names = PYTORCH_NAMES[ARCHITECTURES[options['arch']].family](arrays)
    write_safetensors(paths[0], {names[name]: array for name, array in arrays.items()}, options)


def run_pytorch_names(paths, net):
    arrays = import_arrays(read_weights(paths[0]).arrays, net, paths[0])
    in_graph = {param.name: arrays[name] for name, param in named_parameters(net).items()}
    written = network_of(net(mx.sym.var('data')), in_graph)
    return lambda images: written(mx.nd.array(images)).asnumpy()


# By family of architectures, a function that returns the name of each array in PyTorch's packages.
PYTORCH_NAMES = {'resnet': pytorch_resnet.pytorch_names, 'efficientnet': timm_efficientnet.pytorch_names}

# endings: of the file names, after the value of `-o`; the last one is the description's.
# write: a function of (network, paths, image shape, options of the network by name).
# run: a function of (paths, network) that returns a function from images to logits of what was written.
Format = namedtuple('Format', 'endings write run')
FORMATS = {
    'symbol': Format(('-symbol.json', '-0000.params', '-symbol-about.json'), write_symbol, run_symbol),
    'onnx': Format(('.onnx', '-onnx-about.json'), write_onnx, run_onnx),
    'safetensors': Format(('.safetensors', '-safetensors-about.json'), write_pytorch_names, run_pytorch_names),
}
