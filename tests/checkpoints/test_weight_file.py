"""weight_file.py: files of weights in every format, and files that lie about themselves."""

import numpy as np
import pytest
import safetensors

from imagenet.architectures.identification import identify
from imagenet.checkpoints.description import read_description
from imagenet.checkpoints.weight_file import read_weights, write_safetensors
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

DESCRIPTION = {
    'arch': 'resnetv15',
    'num_layers': 18,
    'num_classes': 10,
    'batchnorm_eps': 1e-5,
    'image_shape': [3, 32, 32],
    'data_val_resize': 32,
    'rgb_mean': [1, 2, 3],
    'rgb_std': [1, 1, 1],
}
# Bytes of the values behind the header.
VALUES = 3 * 4 * 3 * 2 * 2 * 4


@pytest.fixture
def written(tmp_path):
    """A safetensors file under this package's names, and its arrays."""
    arrays = {f'features.{number}.weight': mx.nd.random.normal(shape=(4, 3, 2, 2)) for number in range(3)}
    write_safetensors(tmp_path / 'net.safetensors', arrays, DESCRIPTION)
    return tmp_path / 'net.safetensors', arrays


def test_safetensors(written):
    path, arrays = written
    found = read_weights(path)
    assert set(found.arrays) == set(arrays)
    assert all(np.array_equal(found.arrays[name].asnumpy(), array.asnumpy()) for name, array in arrays.items())
    assert found.description == DESCRIPTION
    assert read_description(path, identify).known['arch'] == 'resnetv15'


@pytest.mark.parametrize(
    ('dtype', 'data', 'values'),
    [
        ('float16', np.array([1.5, -2], '<f2').tobytes(), [1.5, -2]),
        ('bfloat16', np.array([0x3FC0, 0xC000], '<u2').tobytes(), [1.5, -2]),
        ('float64', np.array([1.5, -2], '<f8').tobytes(), [1.5, -2]),
    ],
)
def test_types_of_values(tmp_path, dtype, data, values):
    tensors = {'weight': {'dtype': dtype, 'shape': [2], 'data': data}}
    (tmp_path / 'net.safetensors').write_bytes(safetensors.serialize(tensors, None))
    found = read_weights(tmp_path / 'net.safetensors')
    assert found.description is None
    np.testing.assert_array_equal(found.arrays['weight'].asnumpy(), values)


def header(length, content):
    return length.to_bytes(8, 'little') + content


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (header(2**40, b'{"a": 1}'), 'not the weights of a network, or damaged'),
        (header(8, b'{"a": 1}'), 'not the weights of a network, or damaged'),
        (
            header(58, b'{"a":{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}'),
            'not the weights of a network, or damaged',
        ),
        (header(2, b'{}'), 'there are no arrays in this file'),
        (b'PK\x03\x04' + bytes(100), 'not the weights of a network, or damaged'),
        (b'\x80\x02\x8a\x0a' + bytes(100), 'not the weights of a network, or damaged'),
        (b'', 'not a file of weights; name a .params, .safetensors, .pth or .pt file'),
        (b'GIF89a' + bytes(100), 'not a file of weights'),
    ],
)
def test_damaged_files(tmp_path, content, reason):
    (tmp_path / 'net').write_bytes(content)
    with pytest.raises(UserError, match=f'--load .*net: {reason}'):
        read_weights(tmp_path / 'net')


def test_description_of_another_form(written):
    path, arrays = written
    write_safetensors(path, arrays, {**DESCRIPTION, 'num_classes': 'all'})
    with pytest.raises(UserError, match='not a description of a network'):
        read_weights(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match='No such file'):
        read_weights(tmp_path / 'none.safetensors')
    with pytest.raises(UserError, match='Is a directory'):
        read_weights(tmp_path)


def test_changed_bytes_never_raise_anything_else(written):
    path, _ = written
    intact, random, refused = path.read_bytes(), np.random.RandomState(0), 0
    for _ in range(1000):
        changed = bytearray(intact)
        for place in random.randint(len(intact) - VALUES, size=random.randint(1, 4)):
            changed[place] = random.randint(256)
        path.write_bytes(changed)
        try:
            read_weights(path)
        except UserError:
            refused += 1
    # Some changes, such as another name, leave a file that is well formed.
    assert 500 < refused < 1000
