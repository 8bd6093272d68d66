"""pytorch_file.py: tensors of old PyTorch files, and files that are damaged or hostile."""

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from imagenet.checkpoints.importers.pytorch_file import FORMAT_VERSION, MAGIC, read_tensors

VALUES = np.arange(24, dtype=np.float32)


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


@pytest.fixture
def torch(monkeypatch):
    """Names that the pickles of PyTorch use."""
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
    for name in ('FloatStorage', 'LongStorage', 'StrangeStorage'):
        setattr(torch, name, type(name, (), {'__module__': 'torch'}))

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = 'torch._utils', '_rebuild_tensor_v2'
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setitem(sys.modules, 'torch._utils', utils)
    return torch


def tensor(torch, shape, strides, offset=0, kind='FloatStorage', key='94', num_values=24):
    storage = StorageReference(getattr(torch, kind), key, num_values)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, OrderedDict())


def file_with(content, *storages, keys=None):
    """Return a file like that of `torch.save`; storages are (key, array)."""
    parts = [pickled(part) for part in (MAGIC, FORMAT_VERSION, {'little_endian': True}, content)]
    parts.append(pickled([key for key, _ in storages] if keys is None else keys))
    parts += [struct.pack('<q', array.size) + array.tobytes() for _, array in storages]
    return io.BytesIO(b''.join(parts))


def test_views_of_storages(torch):
    content = OrderedDict(
        weight=tensor(torch, (2, 3, 4), (12, 4, 1)),
        transposed=tensor(torch, (4, 3, 2), (1, 4, 12)),
        part=tensor(torch, (2, 2), (4, 1), offset=5),
        count=tensor(torch, (), (), kind='LongStorage', key='95', num_values=1),
        column=tensor(torch, (24, 1), (1, 2**100)),
    )
    content._metadata = OrderedDict(version=1)
    found = read_tensors(file_with(content, ('94', VALUES), ('95', np.array([7]))))
    np.testing.assert_array_equal(found['weight'], VALUES.reshape(2, 3, 4))
    np.testing.assert_array_equal(found['transposed'], VALUES.reshape(2, 3, 4).transpose())
    np.testing.assert_array_equal(found['part'], [[5, 6], [9, 10]])
    np.testing.assert_array_equal(found['column'][:, 0], VALUES)
    assert found['count'] == 7
    assert found['count'].dtype == np.int64


@pytest.mark.parametrize('function', [os.mkdir, print, getattr, OrderedDict.fromkeys, pickle.loads])
def test_nothing_in_a_file_runs(function, tmp_path, torch):
    path = tmp_path / 'made'
    hostile = Call(function, str(path))
    with pytest.raises(ValueError, match='it would call|an instruction that tensors do not need'):
        read_tensors(file_with({'weight': tensor(torch, (24,), (1,)), 'other': hostile}, ('94', VALUES)))
    assert not path.exists()


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda torch: tensor(torch, (5, 5), (5, 1)), r'a tensor of shape \(5, 5\) outside its storage'),
        (lambda torch: tensor(torch, (2,), (24,)), 'outside its storage'),
        (lambda torch: tensor(torch, (24,), (1,), offset=1), 'outside its storage'),
        # A view without strides would be of any size.
        (lambda torch: tensor(torch, (10**9, 10**9), (0, 0)), 'outside its storage'),
        (lambda torch: tensor(torch, (24,), (-1,)), 'a tensor without storage, shape or strides'),
        (lambda torch: tensor(torch, (2, 3), (1,)), r'a tensor of shape \(2, 3\) with strides \(1,\)'),
        (lambda torch: tensor(torch, (24,), (1,), kind='StrangeStorage'), 'the unknown type torch.StrangeStorage'),
        (lambda torch: tensor(torch, (24,), (1,), num_values=10**18), 'a storage of another size'),
        (lambda torch: 90, 'its content is not tensors by name'),
        (lambda torch: [1, 2], 'its content is not tensors by name'),
    ],
)
def test_content_that_is_no_tensor(torch, make, message):
    with pytest.raises(ValueError, match=message):
        read_tensors(file_with({'weight': make(torch)}, ('94', VALUES)))


def test_storages_that_are_not_there(torch):
    content = {'weight': tensor(torch, (24,), (1,))}
    complete = file_with(content, ('94', VALUES)).getvalue()
    with pytest.raises(ValueError, match='96 bytes at byte .*, but the file has'):
        read_tensors(io.BytesIO(complete[:-1]))
    for keys in ([], ['95'], ['94', '95'], 94):
        with pytest.raises(ValueError, match='its storages are not those of its tensors'):
            read_tensors(file_with(content, ('94', VALUES), keys=keys))


def test_files_of_another_format(torch):
    for content in (pickled(3), b'PK\x03\x04' + bytes(100), b'', bytes(100)):
        with pytest.raises(ValueError):
            read_tensors(io.BytesIO(content))
    with pytest.raises(ValueError, match='not in the format of PyTorch before 1.6'):
        read_tensors(io.BytesIO(pickled(MAGIC) + pickled(1002)))


def test_changed_bytes_never_raise_anything_else(torch):
    content = OrderedDict(weight=tensor(torch, (2, 3, 4), (12, 4, 1)), part=tensor(torch, (2, 2), (4, 1), offset=5))
    intact = file_with(content, ('94', VALUES)).getvalue()
    random, refused = np.random.RandomState(0), 0
    for _ in range(3000):
        changed = bytearray(intact)
        for place in random.randint(len(intact) - VALUES.nbytes, size=random.randint(1, 4)):
            changed[place] = random.randint(256)
        try:
            read_tensors(io.BytesIO(changed))
        except ValueError:
            refused += 1
    # Some changes, such as another name, leave a file that is well formed.
    assert 1500 < refused < 3000
