"""Reads MXNet's parameter files; the format is that of `NDArray::Save` in MXNet's ndarray.cc.

MXNet's own reader believes every number in a file: a damaged one makes it crash, or allocate all memory.

A file consists of a magic number, 8 reserved bytes, the number of arrays, the arrays, the number of names, and the
names. Bytes after these are ignored. An array is its version, storage type, shape, device, type of values, and values.
All numbers are little-endian.
"""

import math
import struct

import numpy as np

from imagenet.checkpoints.bounded_reader import BoundedReader

# kMXAPINDArrayListMagic
MAGIC = struct.pack('<Q', 0x112)
RESERVED_BYTES = 8
# An array's version. Before version 1, the file has the number of dimensions in this place, and 32 bits for each.
VERSIONS = V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE = 0
MOST_DIMENSIONS = 8
DEVICE_BYTES = 8
# mshadow's TypeFlag
TYPES = {0: '<f4', 1: '<f8', 2: '<f2', 3: 'u1', 4: '<i4', 5: 'i1', 6: '<i8'}
LONGEST_NAME = 1000


def read_named_arrays(file):
    """Return the arrays of a file, as NumPy arrays by name; the dict is empty if they have no names.

    Args:
        file: a binary file, at its beginning or behind `MAGIC`.

    Raises:
        ValueError: the file is damaged; the message gives the reason.
    """
    reader = BoundedReader(file)
    reader.bytes(RESERVED_BYTES)
    arrays = [_read_array(reader) for _ in range(reader.number('Q'))]
    names = [_read_name(reader) for _ in range(reader.number('Q'))]
    if names and len(names) != len(arrays):
        raise ValueError(f'{len(arrays)} arrays and {len(names)} names')
    if len(set(names)) < len(names):
        raise ValueError('two arrays of the same name')
    return dict(zip(names, arrays))


def _read_array(reader):
    version = reader.number('I')
    if version in (V2, V3) and reader.number('i') != DENSE:
        raise ValueError('a sparse array')
    num_dimensions = reader.number('i') if version in VERSIONS else version
    if not 0 < num_dimensions <= MOST_DIMENSIONS:
        raise ValueError(f'an array of {num_dimensions} dimensions')
    shape = reader.numbers('q' if version in VERSIONS else 'I', num_dimensions)
    if min(shape) < 1:
        raise ValueError(f'an array of shape {shape}')
    reader.bytes(DEVICE_BYTES)
    kind = reader.number('i')
    if kind not in TYPES:
        raise ValueError(f'an array of the unknown type {kind}')
    dtype = np.dtype(TYPES[kind])
    return np.frombuffer(reader.bytes(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def _read_name(reader):
    length = reader.number('Q')
    if length > LONGEST_NAME:
        raise ValueError(f'a name of {length} bytes')
    name = reader.bytes(length).decode('utf-8')
    if not name.isprintable():
        raise ValueError(f'a name with control characters: {name!r}')
    return name
