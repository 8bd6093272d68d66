"""pytorch_file.py: tensors of PyTorch files, and files that are damaged or hostile."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from helpers.pytorch_files import Call, archive_with, file_with, pickled, tensor, torch_names
from imagenet.checkpoints.importers.pytorch_file import MAGIC, read_tensors

VALUES = np.arange(24, dtype=np.float32)


@pytest.fixture
def torch():
    with torch_names() as torch:
        yield torch


@pytest.mark.parametrize('write', [file_with, archive_with])
def test_views_of_storages(torch, write):
    content = OrderedDict(
        weight=tensor(torch, (2, 3, 4), (12, 4, 1)),
        transposed=tensor(torch, (4, 3, 2), (1, 4, 12)),
        part=tensor(torch, (2, 2), (4, 1), offset=5),
        count=tensor(torch, (), (), kind='LongStorage', key='95', num_values=1),
        column=tensor(torch, (24, 1), (1, 2**100)),
    )
    content._metadata = OrderedDict(version=1)
    found = read_tensors(write(content, ('94', VALUES), ('95', np.array([7]))))
    np.testing.assert_array_equal(found['weight'], VALUES.reshape(2, 3, 4))
    np.testing.assert_array_equal(found['transposed'], VALUES.reshape(2, 3, 4).transpose())
    np.testing.assert_array_equal(found['part'], [[5, 6], [9, 10]])
    np.testing.assert_array_equal(found['column'][:, 0], VALUES)
    assert found['count'] == 7
    assert found['count'].dtype == np.int64


@pytest.mark.parametrize('write', [file_with, archive_with])
@pytest.mark.parametrize('function', [os.mkdir, print, getattr, OrderedDict.fromkeys, pickle.loads])
def test_nothing_in_a_file_runs(function, write, tmp_path, torch):
    path = tmp_path / 'made'
    hostile = Call(function, str(path))
    with pytest.raises(ValueError, match='it would call|an instruction that tensors do not need'):
        read_tensors(write({'weight': tensor(torch, (24,), (1,)), 'other': hostile}, ('94', VALUES)))
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
        (lambda torch: 90, 'its storages are not those of its tensors'),
        (lambda torch: [tensor(torch, (24,), (1,))], 'its content is not tensors by name'),
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
    with pytest.raises(ValueError, match='not in a format of PyTorch'):
        read_tensors(io.BytesIO(pickled(MAGIC) + pickled(1002)))


@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_weights_among_other_things(torch, key):
    """A training program saves more than the weights; on several devices, names get a prefix."""
    weights = OrderedDict({'module.conv1.weight': tensor(torch, (24,), (1,))})
    content = {'epoch': 3, 'optimizer': {'state': {0: {'momentum': tensor(torch, (4,), (1,))}}}, key: weights}
    found = read_tensors(archive_with(content, ('94', VALUES)))
    assert list(found) == ['conv1.weight']
    np.testing.assert_array_equal(found['conv1.weight'], VALUES)


def test_bfloat16(torch):
    content = {'weight': tensor(torch, (2,), (1,), kind='BFloat16Storage', num_values=2)}
    found = read_tensors(archive_with(content, ('94', np.array([0x3FC0, 0xC000], '<u2'))))
    np.testing.assert_array_equal(found['weight'], np.array([1.5, -2], np.float32))


def test_archives_that_fill_the_memory(torch):
    content = {'weight': tensor(torch, (24,), (1,))}
    with pytest.raises(ValueError, match='a compressed archive, which PyTorch does not write'):
        read_tensors(archive_with(content, ('94', VALUES), compression=zipfile.ZIP_DEFLATED))
    many = {f'weight{index}': tensor(torch, (24,), (1,)) for index in range(17)}
    with pytest.raises(ValueError, match='more than 16 tensors share each storage'):
        read_tensors(archive_with(many, ('94', VALUES)))
    intact = archive_with(content, ('94', np.zeros(10**5, np.float32))).getvalue()
    # The last entry of the directory stands for another one, so that both are the same bytes.
    overlapping = intact.replace(b'net/version', b'net/data/94')
    with pytest.raises(ValueError):
        read_tensors(io.BytesIO(overlapping))


def test_parts_of_an_archive_that_are_missing(torch):
    content = {'weight': tensor(torch, (24,), (1,))}
    with pytest.raises(ValueError, match='a part is missing: .*net/data/94'):
        read_tensors(archive_with(content))
    with pytest.raises(ValueError, match='a storage of another size'):
        read_tensors(archive_with(content, ('94', VALUES[:-1])))
    with pytest.raises(ValueError, match='an archive without data.pkl'):
        file = io.BytesIO()
        with zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('other', b'')
        read_tensors(file)


@pytest.mark.parametrize('write', [file_with, archive_with])
def test_changed_bytes_never_raise_anything_else(torch, write):
    content = OrderedDict(weight=tensor(torch, (2, 3, 4), (12, 4, 1)), part=tensor(torch, (2, 2), (4, 1), offset=5))
    intact = write(content, ('94', VALUES)).getvalue()
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
