"""Parameters on disk.

A file contains float32 arrays under names that follow from the network's structure (`features.3.0.body.0.weight`).
Weights are (out, in, height, width), with three input channels. Files do not depend on layout, fusion, precision or a
fourth input channel: these only concern the network in memory.

Files written by the original of this package can be read, too: see `import_arrays`.
"""

import os

from imagenet.checkpoints.parameter_file import MAGIC, read_named_arrays
from imagenet.checkpoints.trailer import append_trailer
from imagenet.common.errors import UserError
from imagenet.common.files import write_atomically
from imagenet.runtime.compat import mx

# The weight of the convolution that reads the image, in every architecture.
INPUT_WEIGHT = 'features.0.weight'
IMAGE_CHANNELS = 3
# The layer after the features, in every architecture; its first axis is the classes.
OUTPUT_WEIGHT, OUTPUT_BIAS = 'output.weight', 'output.bias'
NAMES_SHOWN = 3


def named_parameters(net):
    """Return the network's parameters by canonical name, including running statistics."""
    return net._collect_params_with_prefix()


def to_canonical(name, array, weight_layout):
    """Return an array in canonical form, the form on disk.

    Args:
        name: its canonical name.
        array: a parameter's values, in any precision.
        weight_layout: 'NCHW' if a convolution's weight is (out, in, height, width), 'NHWC' if `in` comes last.
    """
    if array.ndim == 4 and weight_layout == 'NHWC':
        array = array.transpose((0, 3, 1, 2))
    if name == INPUT_WEIGHT and array.ndim == 4:
        array = array[:, :IMAGE_CHANNELS]
    return array.astype('float32')


def from_canonical(name, array, net):
    """Return a canonical array in the form of `net`, the inverse of `to_canonical`; zeros fill a fourth channel."""
    if name == INPUT_WEIGHT and net.input_channels > IMAGE_CHANNELS:
        extra = (array.shape[0], net.input_channels - IMAGE_CHANNELS, *array.shape[2:])
        array = mx.nd.concat(array, mx.nd.zeros(extra), dim=1)
    if array.ndim == 4 and net.weight_layout == 'NHWC':
        array = array.transpose((0, 2, 3, 1))
    return array


def canonical_shapes(net):
    """Return the shape on disk of each of a network's parameters, by name."""
    shapes = {}
    for name, param in named_parameters(net).items():
        shape = param.shape
        if len(shape) == 4 and net.weight_layout == 'NHWC':
            shape = (shape[0], shape[3], *shape[1:3])
        shapes[name] = (shape[0], IMAGE_CHANNELS, *shape[2:]) if name == INPUT_WEIGHT else shape
    return shapes


def set_canonical(net, arrays):
    """Set parameters, which must be initialized, to canonical arrays given by name."""
    params = named_parameters(net)
    for name, array in arrays.items():
        params[name].set_data(from_canonical(name, array, net).astype(params[name].dtype))


def canonical_arrays(net):
    """Return copies of the network's values in canonical form, by name, made asynchronously by MXNet's engine."""
    return {
        name: to_canonical(name, param.data(param.list_ctx()[0]), net.weight_layout).as_in_context(mx.cpu())
        for name, param in named_parameters(net).items()
    }


def write_arrays(path, arrays, description=None):
    """Write a parameter file atomically.

    Args:
        description: what the file says about its network, as content for JSON; see description.py.

    Raises:
        UserError: it cannot be written.
    """

    def write(temporary):
        try:
            mx.nd.save(str(temporary), arrays)
            # If the disk fills up near the end of the file, MXNet reports no error. Only reading it back shows that.
            mx.nd.load(str(temporary))
        except mx.base.MXNetError:
            raise UserError(f'{path}: cannot write the complete file (is the disk full?)') from None
        if description is not None:
            append_trailer(temporary, description)

    write_atomically(path, write)


def read_arrays(path, subject=None):
    """Return the arrays of a parameter file, by name.

    Args:
        subject: the start of messages; by default, the option --load.

    Raises:
        UserError: the file is missing, damaged, or not a parameter file.
    """
    subject, advice = subject or f'--load {path}', 'name a .params file that a training run saved'
    try:
        # A pipe is not waited for: it is no parameter file.
        with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise UserError(
                    f'{subject}: not an MXNet parameter file; name a .params file that a training run saved'
                )
            arrays = read_named_arrays(file)
    except OSError as error:
        raise UserError(f'{subject}: cannot read this file ({error.strerror})') from None
    except ValueError as error:
        raise UserError(f'{subject}: this parameter file is damaged ({error}); use another checkpoint') from None
    if not arrays:
        raise UserError(f'{subject}: its arrays have no names; {advice}')
    return {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}


def array_differences(arrays, expected):
    """Return descriptions of how arrays differ from the expected ones in name and shape; the first of each are named.

    Args:
        arrays: arrays by name.
        expected: shapes by name.
    """
    found = {
        'missing': [name for name in expected if name not in arrays],
        'unexpected': [name for name in arrays if name not in expected],
        'of another shape': [
            f'{name} {arrays[name].shape} instead of {shape}'
            for name, shape in expected.items()
            if name in arrays and arrays[name].shape != shape
        ],
    }
    return [f'{len(names)} {what} ({_first(names)})' for what, names in found.items() if names]


def _first(names):
    return ', '.join(names[:NAMES_SHOWN]) + (', …' if len(names) > NAMES_SHOWN else '')
