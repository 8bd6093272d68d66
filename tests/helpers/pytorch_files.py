"""Writes files like those of `torch.save`, without PyTorch."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from contextlib import contextmanager

from imagenet.checkpoints.importers.pytorch_file import FORMAT_VERSION, MAGIC

STORAGES = ('FloatStorage', 'BFloat16Storage', 'LongStorage', 'StrangeStorage')


class StorageReference:
    """Stands for a storage in `pickled`."""

    def __init__(self, kind, key, num_values):
        self.reference = ('storage', kind, key, 'cpu', num_values, None)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.reference if isinstance(value, StorageReference) else None


def pickled(content):
    file = io.BytesIO()
    Pickler(file, protocol=2).dump(content)
    return file.getvalue()


@contextmanager
def torch_names():
    """Provide a module `torch` with the names that PyTorch's pickles use, within the block."""
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
    for name in STORAGES:
        setattr(torch, name, type(name, (), {'__module__': 'torch'}))

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = 'torch._utils', '_rebuild_tensor_v2'
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    names = {'torch': torch, 'torch._utils': utils}
    sys.modules.update(names)
    try:
        yield torch
    finally:
        for name in names:
            del sys.modules[name]


def tensor(torch, shape, strides, offset=0, kind='FloatStorage', key='94', num_values=24):
    storage = StorageReference(getattr(torch, kind), key, num_values)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, OrderedDict())


def file_with(content, *storages, keys=None):
    """Return a file like that of `torch.save`; storages are (key, array)."""
    parts = [pickled(part) for part in (MAGIC, FORMAT_VERSION, {'little_endian': True}, content)]
    parts.append(pickled([key for key, _ in storages] if keys is None else keys))
    parts += [struct.pack('<q', array.size) + array.tobytes() for _, array in storages]
    return io.BytesIO(b''.join(parts))


def archive_with(content, *storages, folder='net/', compression=zipfile.ZIP_STORED, change=lambda data: data):
    """Return a file like that of `torch.save` since version 1.6; storages are (key, array).

    Args:
        change: a function of the pickle's bytes that returns those that are written instead.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        archive.writestr(f'{folder}data.pkl', change(pickled(content)))
        archive.writestr(f'{folder}version', '3')
        for key, array in storages:
            archive.writestr(f'{folder}data/{key}', array.tobytes())
    return file


def weights_with(torch, arrays):
    """Return float32 arrays by name as the content and the storages of `file_with` and `archive_with`."""
    content, storages = OrderedDict(), []
    for number, (name, array) in enumerate(sorted(arrays.items())):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        content[name] = tensor(torch, array.shape, strides, key=f'{number:04}', num_values=array.size)
        storages.append((f'{number:04}', array))
    return content, storages
