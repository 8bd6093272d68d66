"""Files of weights that `--load` takes: MXNet's, PyTorch's and safetensors (github.com/huggingface/safetensors)."""

import json
import os
from collections import namedtuple

import safetensors

from imagenet.checkpoints import parameter_file
from imagenet.checkpoints.importers.pytorch_file import as_values, read_tensors
from imagenet.checkpoints.parameters import read_arrays
from imagenet.checkpoints.trailer import check_description, read_trailer
from imagenet.common.errors import UserError
from imagenet.reporting.json_files import parse_json
from imagenet.runtime.compat import mx

# arrays: MXNet arrays by name. description: what the file says about its network, or None; see description.py.
WeightFile = namedtuple('WeightFile', 'arrays description')

# Types of values in safetensors files, with their names in NumPy and in pytorch_file.py.
TYPES = {
    'F64': '<f8',
    'F32': '<f4',
    'F16': '<f2',
    'BF16': 'bfloat16',
    'I64': '<i8',
    'I32': '<i4',
    'I8': 'i1',
    'U8': 'u1',
}
# Where the header of a safetensors file has texts; one of them describes the network, as JSON.
METADATA, DESCRIPTION = '__metadata__', 'network'
PYTORCH_MAGICS = (b'PK\x03\x04', b'\x80\x02\x8a\x0a')
# A safetensors file starts with the length of its header, in 8 bytes, and the header, which is JSON.
LENGTH_BYTES = 8
# Counters of PyTorch's batch norms, which nothing here needs.
COUNTER = '.num_batches_tracked'


def read_weights(path):
    """Return the `WeightFile` at a path, whose content decides about its format.

    Raises:
        UserError: the file cannot be read, is damaged, or has no weights.
    """
    subject = f'--load {path}'
    try:
        # A pipe is not waited for: it is no file of weights.
        with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            start = file.read(LENGTH_BYTES + 1)
            if start.startswith(parameter_file.MAGIC):
                return WeightFile(without_counters(read_arrays(path)), read_trailer(path))
            file.seek(0)
            if start.startswith(PYTORCH_MAGICS):
                arrays, description = read_tensors(file), None
            elif start.endswith(b'{') and len(start) > LENGTH_BYTES:
                arrays, description = _read_safetensors(file.read(), subject)
            else:
                raise UserError(f'{subject}: not a file of weights; name a .params, .safetensors, .pth or .pt file')
    except OSError as error:
        raise UserError(f'{subject}: cannot read this file ({error.strerror})') from None
    except ValueError as error:
        raise UserError(f'{subject}: not the weights of a network, or damaged ({error}); use another file') from None
    arrays = without_counters(arrays)
    if not arrays:
        raise UserError(f'{subject}: there are no arrays in this file; use another one')
    return WeightFile({name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}, description)


def write_safetensors(path, arrays, description):
    """Write a safetensors file.

    Args:
        arrays: float32 MXNet arrays by name.
        description: what the file says about its network; see description.py.
    """
    tensors = {
        name: {'dtype': 'float32', 'shape': array.shape, 'data': array.asnumpy().tobytes()}
        for name, array in arrays.items()
    }
    # PyTorch's programs ask for the format.
    texts = {'format': 'pt', DESCRIPTION: json.dumps(description)}
    safetensors.serialize_file(tensors, str(path), texts)


def without_counters(arrays):
    return {name: array for name, array in arrays.items() if not name.endswith(COUNTER)}


def _read_safetensors(data, subject):
    """Return the arrays of a safetensors file by name, and its description or None."""
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    arrays = {}
    for name, tensor in tensors:
        if tensor['dtype'] not in TYPES:
            raise ValueError(f'an array of the unknown type {tensor["dtype"]}')
        arrays[name] = as_values(tensor['data'], TYPES[tensor['dtype']]).reshape(tensor['shape'])
    header = parse_json(data[LENGTH_BYTES : LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], 'little')])
    text = header.get(METADATA, {}).get(DESCRIPTION)
    return arrays, None if text is None else check_description(text.encode(), subject)
