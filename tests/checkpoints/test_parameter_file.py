"""parameter_file.py: files are read as MXNet reads them; every number in a damaged one is doubted."""

import os
import struct

import numpy as np
import pytest

from imagenet.checkpoints.parameter_file import MAGIC, V1, V2
from imagenet.checkpoints.parameters import read_arrays
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

TYPES = ('float32', 'float64', 'float16', 'uint8', 'int32', 'int8', 'int64')
# Where things are in a file with the float32 array `weight` of shape (2, 3).
STORAGE, NUM_DIMENSIONS, SHAPE, TYPE, VALUES, NUM_NAMES, NAME_LENGTH, NAME = 28, 32, 36, 60, 64, 88, 96, 104


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'net.params'
    mx.nd.save(str(path), {'weight': mx.nd.arange(6).reshape((2, 3))})
    return path


def write_one(path, header):
    """Write a file with one array, `weight` (2, 3), after a header in one of MXNet's formats."""
    values = np.arange(6, dtype='<f4').tobytes()
    name = struct.pack('<QQ', 1, 6) + b'weight'
    path.write_bytes(MAGIC + struct.pack('<QQ', 0, 1) + header + struct.pack('<iii', 1, 0, 0) + values + name)


def assert_reads_as_mxnet_does(path):
    found, expected = read_arrays(path), mx.nd.load(str(path))
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name].asnumpy(), array.asnumpy())


def test_every_type_and_shape(tmp_path):
    random = np.random.RandomState(0)
    shapes = [(1,), (7,), (2, 3), (2, 3, 4, 5), (1, 2, 1, 2, 1, 2)]
    arrays = {
        f'{kind}.{len(shape)}é': mx.nd.array(random.randint(0, 100, shape), dtype=kind)
        for kind in TYPES
        for shape in shapes
    }
    mx.nd.save(str(tmp_path / 'all.params'), arrays)
    assert_reads_as_mxnet_does(tmp_path / 'all.params')


def test_older_formats(path):
    for header in (
        struct.pack('<III', 2, 2, 3),
        struct.pack('<Iiqq', V1, 2, 2, 3),
        struct.pack('<Iiiqq', V2, 0, 2, 2, 3),
    ):
        write_one(path, header)
        assert_reads_as_mxnet_does(path)


def test_bytes_after_the_names_are_ignored(path):
    with path.open('ab') as file:
        file.write(b'{"more": 1}')
    assert_reads_as_mxnet_does(path)


@pytest.mark.parametrize(
    ('place', 'content', 'problem'),
    [
        (16, struct.pack('<Q', 2), 'an array of shape'),
        (16, struct.pack('<Q', 2**64 - 1), 'an array of shape'),
        (STORAGE, struct.pack('<i', 1), 'a sparse array'),
        (NUM_DIMENSIONS, struct.pack('<i', 0), 'an array of 0 dimensions'),
        (NUM_DIMENSIONS, struct.pack('<i', -1), 'an array of -1 dimensions'),
        (NUM_DIMENSIONS, struct.pack('<i', 2**31 - 1), 'an array of 2147483647 dimensions'),
        (SHAPE, struct.pack('<q', 0), r'an array of shape \(0, 3\)'),
        (SHAPE, struct.pack('<q', -2), r'an array of shape \(-2, 3\)'),
        (SHAPE, struct.pack('<qq', 2**62, 2**62), 'but the file has'),
        (TYPE, struct.pack('<i', 99), 'the unknown type 99'),
        (NUM_NAMES, struct.pack('<Q', 2), 'bytes at byte'),
        (NUM_NAMES, struct.pack('<Q', 2**63), 'bytes at byte'),
        (NAME_LENGTH, struct.pack('<Q', 7), 'bytes at byte'),
        (NAME_LENGTH, struct.pack('<Q', 2**64 - 1), 'a name of 18446744073709551615 bytes'),
        (NAME, b'we\0ght', 'control characters'),
        (NAME, b'we\xffght', "can't decode"),
    ],
)
def test_damaged(path, place, content, problem):
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + content + whole[place + len(content) :])
    with pytest.raises(UserError, match=rf'--load .*: this parameter file is damaged \(.*{problem}.*\); use another'):
        read_arrays(path)


def test_cut_anywhere(path):
    whole = path.read_bytes()
    assert len(whole) == NAME + len('weight')
    for length in range(len(MAGIC), len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match='is damaged'):
            read_arrays(path)


def test_names(path):
    write_one(path, struct.pack('<III', 2, 2, 3))
    whole = path.read_bytes()
    two = MAGIC + struct.pack('<QQ', 0, 2) + 2 * whole[24:-22] + struct.pack('<Q', 2) + 2 * whole[-14:]
    path.write_bytes(two)
    with pytest.raises(UserError, match='two arrays of the same name'):
        read_arrays(path)
    mx.nd.save(str(path), [mx.nd.ones(2)])
    with pytest.raises(UserError, match='its arrays have no names'):
        read_arrays(path)


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(UserError, match='not an MXNet parameter file'):
        read_arrays(tmp_path / 'pipe')
