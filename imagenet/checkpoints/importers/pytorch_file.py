"""Reads the tensors of a PyTorch file without unpickling objects: nothing in the file can run.

There are two formats (torch/serialization.py). That of PyTorch before 1.6 (`_legacy_save`) consists of pickles, namely
a magic number, the format's version, facts about the system that wrote it, the content, and the keys of the storages;
then, for each storage, the number of its values, and the values. Since then, a file is an uncompressed ZIP archive
(`_save`) with the content in `data.pkl` and each storage in `data/KEY`. A tensor in the content names a storage, an
offset, a shape and strides, which may be those of a transposed view.

A pickle is a program for a stack machine (see Python's pickletools.py). The one here knows the instructions that
tensors by name need, and none of the functions that a pickle may name is called.
"""

import io
import struct
import zipfile
from collections import namedtuple

import numpy as np

from imagenet.checkpoints.bounded_reader import BoundedReader

MAGIC = 0x1950A86A20F9469CFC6C
FORMAT_VERSION = 1001
CONTENT = 'data.pkl'
# Where training programs put the weights if they save more than these.
STATES = ('state_dict', 'model', 'model_state_dict', 'net')
# What networks that were trained on several devices put before each name.
WRAPPER = 'module.'
# A large network has 2,000 tensors, and each takes about 60 instructions.
MOST_INSTRUCTIONS = 1_000_000
LONGEST_TEXT = 1000
LONGEST_INTEGER = 16
MOST_DIMENSIONS = 8
MOST_VIEWS = 16
BFLOAT16 = 'bfloat16'
# Types of storages, in the module `torch`.
TYPES = {
    'FloatStorage': '<f4',
    'DoubleStorage': '<f8',
    'HalfStorage': '<f2',
    'BFloat16Storage': BFLOAT16,
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

    A file of more than a network's tensors is searched for these (`STATES`).

    Raises:
        ValueError: the file is damaged, or has anything but tensors, numbers and texts; the message gives the reason.
    """
    content, values = _read_archive(file) if zipfile.is_zipfile(file) else _read_pickles(file)
    tensors = _find_tensors(content)
    arrays = {name: _view(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}
    # Copies of many views of a large storage would fill the memory.
    if sum(array.size for array in arrays.values()) > MOST_VIEWS * sum(map(len, values.values())):
        raise ValueError(f'more than {MOST_VIEWS} tensors share each storage')
    return arrays


def _read_pickles(file):
    """Return the content of a file in the old format, and the values of its storages by key."""
    file.seek(0)
    reader = BoundedReader(file)
    if _StackMachine(reader).run() != MAGIC or _StackMachine(reader).run() != FORMAT_VERSION:
        raise ValueError('not in a format of PyTorch')
    # All systems in use are little-endian.
    _StackMachine(reader).run()
    machine = _StackMachine(reader)
    content, keys = machine.run(), _StackMachine(reader).run()
    if not isinstance(keys, list) or keys != sorted(machine.storages):
        raise ValueError('its storages are not those of its tensors')
    return content, {key: _read_storage(reader, machine.storages[key]) for key in keys}


def _read_storage(reader, storage):
    if reader.number('q') != storage.num_values:
        raise ValueError('a storage of another size')
    return as_values(reader.bytes(storage.num_values * value_bytes(storage.dtype)), storage.dtype)


def _read_archive(file):
    """Return the content of a file in the new format, and the values of its storages by key."""
    size = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            # Nothing unfolds: a small file cannot fill the memory.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError('a compressed archive, which PyTorch does not write')
            if sum(entry.file_size for entry in entries) > size:
                raise ValueError('an archive whose files overlap')
            folder = _folder_of_content([entry.filename for entry in entries])
            machine = _StackMachine(BoundedReader(io.BytesIO(archive.read(f'{folder}{CONTENT}'))))
            content = machine.run()
            values = {}
            for key, storage in machine.storages.items():
                data = archive.read(f'{folder}data/{key}')
                if len(data) != storage.num_values * value_bytes(storage.dtype):
                    raise ValueError('a storage of another size')
                values[key] = as_values(data, storage.dtype)
    except KeyError as error:
        raise ValueError(f'a part is missing: {error.args[0]}') from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, struct.error) as error:
        raise ValueError(str(error) or 'a damaged archive') from None
    return content, values


def _folder_of_content(names):
    folders = [name[: -len(CONTENT)] for name in names if name == CONTENT or name.endswith(f'/{CONTENT}')]
    if len(folders) != 1:
        raise ValueError(f'an archive without {CONTENT}')
    return folders[0]


def value_bytes(dtype):
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def as_values(data, dtype):
    """Return bytes as an array of a NumPy type; bfloat16, which NumPy does not have, as float32."""
    if dtype == BFLOAT16:
        return (np.frombuffer(data, '<u2').astype('<u4') << 16).view('<f4')
    return np.frombuffer(data, dtype)


def _find_tensors(content):
    """Return the tensors of a network by name."""
    candidates = [content, *(content.get(name) for name in STATES)] if isinstance(content, dict) else []
    for candidate in candidates:
        if isinstance(candidate, dict) and candidate and all(isinstance(value, Tensor) for value in candidate.values()):
            is_wrapped = all(str(name).startswith(WRAPPER) for name in candidate)
            return {str(name)[len(WRAPPER) if is_wrapped else 0 :]: value for name, value in candidate.items()}
    raise ValueError('its content is not tensors by name')


def _view(tensor, values):
    """Return a tensor as an array; it is a view, since several may share a large storage."""
    last = tensor.offset + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides))
    count = int(np.prod(tensor.shape, dtype=object))
    if not (0 < count <= len(values) and last < len(values)):
        raise ValueError(f'a tensor of shape {tensor.shape} outside its storage')
    # A stride along a single value can be any number.
    strides = [stride * values.itemsize if length > 1 else 0 for length, stride in zip(tensor.shape, tensor.strides)]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)


class _StackMachine:
    """Runs the instructions of a pickle that make None, numbers, texts, tuples, lists, dicts and tensors.

    Attributes:
        storages: each `Storage` that the pickle refers to, by key.
    """

    def __init__(self, reader):
        self.storages = {}
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
        if len(names) != len(values) or not all(isinstance(name, (str, int)) for name in names):
            raise ValueError('a dict with keys that are not names or numbers')
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
        storage = Storage(key, TYPES[kind.name], num_values)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError('two storages of the same key')
        self._push(storage)

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


def _make_parameter(*arguments):
    """Return the tensor of a parameter, as `torch._utils._rebuild_parameter` would."""
    if not (arguments and isinstance(arguments[0], Tensor)):
        raise ValueError('a parameter without a tensor')
    return arguments[0]


FUNCTIONS = {
    Global('collections', 'OrderedDict'): _make_dict,
    Global('torch._utils', '_rebuild_tensor_v2'): _make_tensor,
    Global('torch._utils', '_rebuild_parameter'): _make_parameter,
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
