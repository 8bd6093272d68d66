"""records.py: unusable record files are detected before MXNet reads them."""

import shutil

import pytest

from imagenet.common.errors import UserError
from imagenet.datasets.records import check_record_file, read_index
from imagenet.runtime.compat import mx


@pytest.fixture
def files(small_data, tmp_path):
    shutil.copy(small_data / 'val.rec', tmp_path)
    shutil.copy(small_data / 'val.idx', tmp_path)
    return tmp_path / 'val.rec', tmp_path / 'val.idx'


def test_whole_file(files):
    assert check_record_file(*files, num_classes=10) == 70


def test_record_that_contains_the_magic_number(tmp_path):
    """MXNet writes such a payload in several pieces."""
    record, index = tmp_path / 'a.rec', tmp_path / 'a.idx'
    writer = mx.recordio.MXIndexedRecordIO(str(index), str(record), 'w')
    payload = b'1234' + bytes.fromhex('0a23d7ce') + b'5678' + bytes.fromhex('0a23d7ce')
    for key in range(3):
        writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, float(key), key, 0), payload))
    writer.close()
    assert check_record_file(record, index, num_classes=3) == 3


@pytest.mark.parametrize('kept', [0.5, 0.999])
def test_truncated_record_file(files, kept):
    content = files[0].read_bytes()
    files[0].write_bytes(content[: int(len(content) * kept) // 4 * 4])
    with pytest.raises(UserError, match='cut short'):
        check_record_file(*files, num_classes=10)


def test_index_of_another_file(files, small_data):
    with pytest.raises(UserError, match=r'train\.idx.*the index belongs to another file'):
        check_record_file(files[0], small_data / 'train.idx', num_classes=10)


def test_index_that_points_between_records(files):
    lines = files[1].read_text().splitlines()
    key, offset = lines[5].split('\t')
    lines[5] = f'{key}\t{int(offset) + 4}'
    files[1].write_text('\n'.join(lines) + '\n')
    with pytest.raises(UserError, match='is not the start of a record'):
        check_record_file(*files, num_classes=10)


def test_label_above_the_classes(files):
    with pytest.raises(UserError, match=r'--num-classes 4 allows 0 to 3'):
        check_record_file(*files, num_classes=4)


def test_empty_record_file(files):
    files[0].write_bytes(b'')
    with pytest.raises(UserError, match='is empty'):
        check_record_file(*files, num_classes=10)


@pytest.mark.parametrize(
    ('content', 'message'), [(b'', 'empty'), (b'\x89PNG\r\n', 'not an index'), (b'0\t0\n1', 'not an index')]
)
def test_not_an_index(tmp_path, content, message):
    path = tmp_path / 'a.idx'
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_index(path)


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r'a\.rec: cannot read this record file \(No such file'):
        check_record_file(tmp_path / 'a.rec', tmp_path / 'a.idx', num_classes=10)
    with pytest.raises(UserError, match=r'a\.idx: cannot read this index \(No such file'):
        read_index(tmp_path / 'a.idx')
