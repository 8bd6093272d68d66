"""Reads the tensors of a PyTorch file without unpickling objects: nothing in the file can run.

The format is that of `torch.save` before version 1.6 (torch/serialization.py, `_legacy_save`): pickles, namely a magic
number, the format's version, facts about the system that wrote it, the content, and the keys of the storages; then, for
each storage, the number of its values, and the values. A tensor in the content names a storage, an offset, a shape and
strides, which may be those of a transposed view.

A pickle is a program for a stack machine (see Python's pickletools.py). The one here knows the instructions that
tensors by name need, and none of the functions that a pickle may name is called.
"""

import struct
from collections import namedtuple

import numpy as np

from imagenet.checkpoints.bounded_reader import BoundedReader

MAGIC = 0x1950A86A20F9469CFC6C
FORMAT_VERSION = 1001
# A large network has 2,000 tensors, and each takes about 60 instructions.
MOST_INSTRUCTIONS = 1_000_000
LONGEST_TEXT = 1000
LONGEST_INTEGER = 16
MOST_DIMENSIONS = 8
# Types of storages, in the module `torch`.
TYPES = {
    'FloatStorage': '<f4',
    'DoubleStorage': '<f8',
    'HalfStorage': '<f2',
    'LongStorage': '<i8',
    'IntStorage': '<i4',
    'ByteStorage': 'u1',
}

# A function or class that the pickle names.
Global = namedtuple('Global', 'module name')
Storage = namedtuple('Storage', 'key dtype num_values')
Tensor = namedtuple('Tensor', 'storage offset shape strides')
MARK = object()


def read_tensors(file):
    """Return the tensors of a binary file, at its beginning, as NumPy arrays by name.

    Raises:
        ValueError: the file is damaged, or has anything but tensors by name; the message gives the reason.
    """
    reader = BoundedReader(file)
    if read_pickle(reader) != MAGIC or read_pickle(reader) != FORMAT_VERSION:
        raise ValueError('not in the format of PyTorch before 1.6')
    # All systems in use are little-endian.
    read_pickle(reader)
    content, keys = read_pickle(reader), read_pickle(reader)
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError('its content is not tensors by name')
    storages = {tensor.storage.key: tensor.storage for tensor in content.values()}
    if not isinstance(keys, list) or keys != sorted(storages):
        raise ValueError('its storages are not those of its tensors')
    values = {key: _read_storage(reader, storages[key]) for key in keys}
    return {name: _view(tensor, values[tensor.storage.key]) for name, tensor in content.items()}


def _read_storage(reader, storage):
    if reader.number('q') != storage.num_values:
        raise ValueError('a storage of another size')
    dtype = np.dtype(storage.dtype)
    return np.frombuffer(reader.bytes(storage.num_values * dtype.itemsize), dtype)


def _view(tensor, values):
    """Return a tensor as an array; it is a view, since several may share a large storage."""
    last = tensor.offset + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides))
    count = int(np.prod(tensor.shape, dtype=object))
    if not (0 < count <= len(values) and last < len(values)):
        raise ValueError(f'a tensor of shape {tensor.shape} outside its storage')
    # A stride along a single value can be any number.
    strides = [stride * values.itemsize if length > 1 else 0 for length, stride in zip(tensor.shape, tensor.strides)]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)


def read_pickle(reader):
    """Return the content of the pickle at a `BoundedReader`'s position."""
    return _StackMachine(reader).run()


class _StackMachine:
    """Runs the instructions of a pickle that make None, numbers, texts, tuples, lists, dicts and tensors."""

    def __init__(self, reader):
        self._reader = reader
        self._stack = []
        self._memo = {}

    def run(self):
        for _ in range(MOST_INSTRUCTIONS):
            code = self._reader.bytes(1)
            if code == b'.':
                return self._pop()
            if code not in INSTRUCTIONS:
                raise ValueError(f'an instruction that tensors do not need: {code!r}')
            INSTRUCTIONS[code](self)
        raise ValueError(f'a pickle of more than {MOST_INSTRUCTIONS} instructions')

    def _push(self, value):
        self._stack.append(value)

    def _pop(self):
        if not self._stack or self._stack[-1] is MARK:
            raise ValueError('a pickle that takes more than it has')
        return self._stack.pop()

    def _top(self, kind):
        """Return what is on top of the stack, which must be of a type."""
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise ValueError(f'a pickle with a {kind.__name__} missing')
        return self._stack[-1]

    def _pop_to_mark(self):
        values = []
        while self._stack and self._stack[-1] is not MARK:
            values.append(self._stack.pop())
        if not self._stack:
            raise ValueError('a pickle with a mark missing')
        self._stack.pop()
        return values[::-1]

    def _line(self):
        line = b''
        while not line.endswith(b'\n'):
            if len(line) > LONGEST_TEXT:
                raise ValueError('a name that is too long')
            line += self._reader.bytes(1)
        return line[:-1].decode('utf-8')

    def _text(self):
        length = self._reader.number('I')
        if length > LONGEST_TEXT:
            raise ValueError(f'a text of {length} bytes')
        self._push(self._reader.bytes(length).decode('utf-8'))

    def _long_integer(self):
        length = self._reader.number('B')
        if length > LONGEST_INTEGER:
            raise ValueError(f'a number of {length} bytes')
        self._push(int.from_bytes(self._reader.bytes(length), 'little', signed=True))

    def _number(self, kind):
        self._push(self._reader.number(kind))

    def _big_endian_float(self):
        self._push(struct.unpack('>d', self._reader.bytes(8))[0])

    def _tuple(self, length):
        self._push(tuple([self._pop() for _ in range(length)][::-1]))

    def _remember(self, kind):
        if not self._stack:
            raise ValueError('a pickle that takes more than it has')
        self._memo[self._reader.number(kind)] = self._stack[-1]

    def _recall(self, kind):
        number = self._reader.number(kind)
        if number not in self._memo:
            raise ValueError('a pickle that refers to what it does not have')
        self._push(self._memo[number])

    def _set_items(self, pairs):
        names, values = pairs[::2], pairs[1::2]
        if len(names) != len(values) or not all(isinstance(name, str) for name in names):
            raise ValueError('a dict with keys that are not names')
        self._top(dict).update(zip(names, values))

    def _set_item(self):
        value, name = self._pop(), self._pop()
        self._set_items([name, value])

    def _append(self, values):
        self._top(list).extend(values)

    def _storage(self):
        reference = self._pop()
        if not (isinstance(reference, tuple) and len(reference) in (5, 6) and reference[0] == 'storage'):
            raise ValueError('a reference to something other than a storage')
        _, kind, key, _, num_values, *_ = reference
        if not (isinstance(kind, Global) and kind.module == 'torch' and kind.name in TYPES):
            raise ValueError(f'a storage of the unknown type {_shown(kind)}')
        if not (isinstance(key, str) and _is_size(num_values)):
            raise ValueError('a storage without key and size')
        self._push(Storage(key, TYPES[kind.name], num_values))

    def _call(self):
        """Do what the few functions that make tensors would do."""
        arguments, function = self._pop(), self._pop()
        if not (isinstance(function, Global) and function in FUNCTIONS and isinstance(arguments, tuple)):
            raise ValueError(f'it would call {_shown(function)}, which makes no tensor')
        self._push(FUNCTIONS[function](*arguments))

    def _forget_attributes(self):
        """A dict of tensors may have attributes, such as versions; nothing here needs them."""
        self._pop()
        self._top(dict)


def _shown(value):
    return f'{value.module}.{value.name}' if isinstance(value, Global) else f'a {type(value).__name__}'


def _is_size(value):
    return isinstance(value, int) and value >= 0


def _are_sizes(values):
    return isinstance(values, tuple) and len(values) <= MOST_DIMENSIONS and all(map(_is_size, values))


def _make_dict(*arguments):
    if arguments:
        raise ValueError('a dict with arguments')
    return {}


def _make_tensor(*arguments):
    """Return a `Tensor`, as `torch._utils._rebuild_tensor_v2` would."""
    storage, offset, shape, strides = (*arguments, *(None,) * 4)[:4]
    if not (isinstance(storage, Storage) and _is_size(offset) and _are_sizes(shape) and _are_sizes(strides)):
        raise ValueError('a tensor without storage, shape or strides')
    if len(shape) != len(strides):
        raise ValueError(f'a tensor of shape {shape} with strides {strides}')
    return Tensor(storage, offset, shape, strides)


FUNCTIONS = {
    Global('collections', 'OrderedDict'): _make_dict,
    Global('torch._utils', '_rebuild_tensor_v2'): _make_tensor,
}
INSTRUCTIONS = {
    b'\x80': lambda machine: machine._reader.bytes(1),
    b'(': lambda machine: machine._push(MARK),
    b'N': lambda machine: machine._push(None),
    b'\x88': lambda machine: machine._push(True),
    b'\x89': lambda machine: machine._push(False),
    b'J': lambda machine: machine._number('i'),
    b'K': lambda machine: machine._number('B'),
    b'M': lambda machine: machine._number('H'),
    b'G': lambda machine: machine._big_endian_float(),
    b'\x8a': lambda machine: machine._long_integer(),
    b'X': lambda machine: machine._text(),
    b')': lambda machine: machine._push(()),
    b't': lambda machine: machine._push(tuple(machine._pop_to_mark())),
    b'\x85': lambda machine: machine._tuple(1),
    b'\x86': lambda machine: machine._tuple(2),
    b'\x87': lambda machine: machine._tuple(3),
    b']': lambda machine: machine._push([]),
    b'a': lambda machine: machine._append([machine._pop()]),
    b'e': lambda machine: machine._append(machine._pop_to_mark()),
    b'}': lambda machine: machine._push({}),
    b's': lambda machine: machine._set_item(),
    b'u': lambda machine: machine._set_items(machine._pop_to_mark()),
    b'q': lambda machine: machine._remember('B'),
    b'r': lambda machine: machine._remember('I'),
    b'h': lambda machine: machine._recall('B'),
    b'j': lambda machine: machine._recall('I'),
    b'c': lambda machine: machine._push(Global(machine._line(), machine._line())),
    b'Q': lambda machine: machine._storage(),
    b'R': lambda machine: machine._call(),
    b'b': lambda machine: machine._forget_attributes(),
}
