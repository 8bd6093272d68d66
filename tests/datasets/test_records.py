"""records.py: unusable record files are detected before MXNet reads them."""

import os
import shutil

import pytest

from helpers.record_files import write_records
from imagenet.common.errors import UserError
from imagenet.datasets.image_header import JPEG_END, JPEG_START
from imagenet.datasets.records import RecordFile, check_record_file, pack_image, read_index
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
    ('content', 'message'),
    [
        (b'', 'empty'),
        (b'\n \n', 'empty'),
        (b'\x89PNG\r\n', 'not an index'),
        (b'0\t0\n1', 'not an index'),
        (b'0\t0\n1\t\x00', 'not an index'),
        (b'0\tnan\n', 'not an index'),
        (b'0\t-4\n', r'not an index \(it contains -4,'),
        (b'-1\t0\n', r'not an index \(it contains -1,'),
        (b'0\t99999999999999999999999\n', 'not an index'),
        (b'99999999999999999999999\t0\n', 'not an index'),
    ],
)
def test_not_an_index(tmp_path, content, message):
    path = tmp_path / 'a.idx'
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_index(path)


@pytest.mark.parametrize(
    ('offset', 'message'),
    [
        (0, r'val\.idx: points at byte 0 of .*val\.rec more than once; scripts/check_dataset\.py .* lists'),
        (2**63 - 2, r'val\.idx: points at byte 9223372036854775806 of .*val\.rec, which has \d+'),
    ],
)
def test_offsets_twice_or_beyond_the_end(files, offset, message):
    with files[1].open('a') as lines:
        lines.write(f'70\t{offset}\n')
    with pytest.raises(UserError, match=message):
        check_record_file(*files, num_classes=10)
    with pytest.raises(UserError, match=message):
        RecordFile(*files)


def test_index_whose_last_offset_is_inside_a_record(files):
    """This was reported as a record that ends at byte None."""
    size = files[0].stat().st_size
    with files[1].open('a') as lines:
        lines.write(f'70\t{size - 40}\n')
    with pytest.raises(UserError) as raised:
        check_record_file(*files, num_classes=10)
    assert str(raised.value) == (
        f'{files[1]}: byte {size - 40} of {files[0]} is not the start of a record: '
        'the index belongs to another file, or the record file is damaged'
    )


def test_named_pipes_are_not_read(tmp_path):
    for name in ('a.rec', 'a.idx'):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=r'a\.rec: cannot read this record file \(not a regular file\)'):
        check_record_file(tmp_path / 'a.rec', tmp_path / 'a.idx', num_classes=10)
    with pytest.raises(UserError, match=r'a\.idx: cannot read this index \(not a regular file\)'):
        read_index(tmp_path / 'a.idx')


def test_ends_of_a_large_jpeg(tmp_path):
    """Its header and end marker are read, and not what is between; smaller images and other formats are whole."""
    jpeg = JPEG_START + bytes(200_000) + b'end' + JPEG_END
    images = [jpeg, jpeg[-3000:], b'PNG' + bytes(200_000)]
    write_records(tmp_path, range(3), [pack_image(key, key, image) for key, image in enumerate(images)], 'a')
    file = RecordFile(tmp_path / 'a.rec', tmp_path / 'a.idx')
    ends = [bytes(file.read_ends(number).image) for number in range(3)]
    assert len(ends[0]) < 5000
    assert ends[0].startswith(JPEG_START + bytes(4000))
    assert ends[0].endswith(b'end' + JPEG_END)
    assert ends[1:] == images[1:]
    assert [file.read_ends(number).label for number in range(3)] == [0, 1, 2]


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r'a\.rec: cannot read this record file \(No such file'):
        check_record_file(tmp_path / 'a.rec', tmp_path / 'a.idx', num_classes=10)
    with pytest.raises(UserError, match=r'a\.idx: cannot read this index \(No such file'):
        read_index(tmp_path / 'a.idx')
