"""scripts/check_dataset.py: each problem of a data set is located, and bad records are left out of a copy."""

import json
import os
import shutil
import struct
import sys
from collections import namedtuple

import cv2
import pytest

from helpers.commands import assert_user_error, call_here
from helpers.datasets import contents, random_image
from helpers.odd_images import PLAIN, encode
from helpers.record_files import assert_well, edit_index, write_records
from imagenet.datasets.records import MAGIC_BYTES, pack_image, read_index

COMMAND = [sys.executable, 'scripts/check_dataset.py']


# The record of the validation split that the tests damage.
NUMBER = 17


PAYLOAD_BYTES_BEFORE_IMAGE = 24


Stored = namedtuple('Stored', 'key begin data')


@pytest.fixture
def folder(small_data, tmp_path):
    return shutil.copytree(small_data, tmp_path / 'data')


def check(*arguments, **settings):
    return call_here(*COMMAND, *arguments, **settings)


def read_records(folder, split='val'):
    """Return the records that the index points at, in index order."""
    content = (folder / f'{split}.rec').read_bytes()
    keys = (folder / f'{split}.idx').read_text().split()[::2]
    begins = read_index(folder / f'{split}.idx').tolist()
    assert begins == sorted(begins)
    ends = [*begins[1:], len(content)]
    return [Stored(int(key), begin, content[begin:end]) for key, begin, end in zip(keys, begins, ends)]


def replace_records(folder, data):
    """Replace records, given by number; return the byte at which each begins."""
    records = read_records(folder)
    all_data = [data.get(number, record.data) for number, record in enumerate(records)]
    write_records(folder, [record.key for record in records], all_data)
    return {number: read_records(folder)[number].begin for number in data}


def replace_image(folder, image):
    """Replace the image of record `NUMBER`; return the byte at which the record begins."""
    return replace_records(folder, {NUMBER: pack_image(read_records(folder)[NUMBER].key, 2, image)})[NUMBER]


def image_of(record):
    return record.data[8 + PAYLOAD_BYTES_BEFORE_IMAGE :]


def assert_found_and_repaired(folder, expected, kept, others=()):
    """Assert which problems the validation split has, and that a copy holds the kept records and has no problems.

    Args:
        expected: one line per problem.
        kept: the `Stored` records of the copy.
        others: how the lines of further problems begin; each must occur at least once.
    """
    before, new = contents(folder), folder.parent / 'new'
    result = check(folder, '--repair', new)
    assert result.returncode == 1, result.stderr
    problems = [line[2:] for line in result.stdout.splitlines() if line.startswith(f'  {folder}')]
    assert [line for line in problems if not line.startswith(tuple(others))] == expected
    assert all(any(line.startswith(other) for line in problems) for other in others)
    assert contents(folder) == before

    copied = read_records(new)
    assert [record.data for record in copied] == [record.data for record in kept]
    assert [record.key for record in copied] == [record.key for record in kept]
    keys = {str(record.key) for record in kept}
    lines = (folder / 'val.lst').read_text().splitlines(keepends=True)
    assert (new / 'val.lst').read_text() == ''.join(line for line in lines if line.split('\t')[0] in keys)
    for name in ('train.rec', 'train.idx', 'train.lst', 'classes.txt'):
        assert (new / name).read_bytes() == before[name]
    assert_well(new)


def without(records, *numbers):
    return [record for number, record in enumerate(records) if number not in numbers]


def test_whole_data_set(folder):
    result = check(folder)
    assert (result.returncode, result.stderr) == (0, '')
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ['train.rec', str((folder / 'train.rec').stat().st_size), '240', '240', '240'] in lines
    assert ['3', '3_three', '24', '7'] in lines
    assert f'{folder}: no problems found; records read: 310' in result.stdout


def test_single_file(folder):
    (folder / 'train.rec').write_bytes(b'')
    result = check(folder / 'val.rec')
    assert result.returncode == 0
    assert 'no problems found; records read: 70' in result.stdout


def test_images(folder):
    records = read_records(folder)
    image = image_of(records[NUMBER])
    impossible = bytearray(image)
    size = impossible.index(b'\xff\xc0') + 5
    impossible[size : size + 4] = b'\xff\xdc\xff\xdc'
    damaged = {0: b'x' * 500, 7: b'', 8: image[:100], 30: bytes(impossible), 69: image[:-60]}
    begins = replace_records(
        folder, {number: pack_image(records[number].key, 2, image) for number, image in damaged.items()}
    )
    expected = [
        f'{folder}/val.rec: record {number} at byte {begins[number]}: image does not decode' for number in (0, 7, 8, 30)
    ]
    expected.append(f'{folder}/val.rec: record 69 at byte {begins[69]}: JPEG is cut short')
    assert_found_and_repaired(folder, expected, without(records, *damaged))


def test_record_too_short_for_an_image(folder):
    records = read_records(folder)
    begins = replace_records(folder, {NUMBER: MAGIC_BYTES + struct.pack('<I', 4) + b'1234'})
    expected = [f'{folder}/val.rec: record {NUMBER} at byte {begins[NUMBER]}: too short to contain an image']
    assert_found_and_repaired(folder, expected, without(records, NUMBER))


def assert_images_are_reported(folder, images, message):
    """Put encoded images, by record number, into a data set; assert that each is reported and left out of a repair."""
    records = read_records(folder)
    begins = replace_records(
        folder, {number: pack_image(records[number].key, 2, image) for number, image in images.items()}
    )
    expected = [f'{folder}/val.rec: record {number} at byte {begins[number]}: {message}' for number in images]
    assert_found_and_repaired(folder, expected, without(records, *images))


def test_jpeg_with_a_hole(folder):
    """libjpeg fills the rest of such an image, and prints a warning."""
    image = cv2.imencode('.jpg', random_image(200, 200))[1].tobytes()
    middle = len(image) // 2
    holes = {number: image[:middle] + bytes(900 + number) + image[middle + 900 + number :] for number in (5, 6, 50)}
    assert_images_are_reported(folder, holes, 'JPEG data is damaged: libjpeg decodes it with a warning')


def test_formats_that_not_every_reader_decodes(folder):
    images = {
        number: cv2.imencode(suffix, random_image(8, 8))[1].tobytes() for number, suffix in ((3, '.webp'), (9, '.tif'))
    }
    assert_images_are_reported(folder, images, 'image has a format that not every reader decodes')


def test_several_labels(folder):
    records = read_records(folder)
    header = struct.pack('<IfQQ2f', 2, 0, records[NUMBER].key, 0, 2, 3)
    payload = header + image_of(records[NUMBER])
    data = MAGIC_BYTES + struct.pack('<I', len(payload)) + payload + bytes(-len(payload) % 4)
    begin = replace_records(folder, {NUMBER: data})[NUMBER]
    message = 'has several labels, but a classifier learns one'
    expected = [f'{folder}/val.rec: record {NUMBER} at byte {begin}: {message}']
    assert_found_and_repaired(folder, expected, without(records, NUMBER))


def test_orientations_are_counted(folder):
    image = random_image(8, 8)
    for number, orientation in ((3, 1), (9, 6), (10, 8)):
        replace_records(folder, {number: pack_image(number, 2, encode(image, *PLAIN['JPEG'], orientation)[0])})
    result = check(folder, '--output', folder.parent / 'found.json')
    assert result.returncode == 0
    assert 'train.rec: images with an EXIF orientation: 0, of which 0 are turned when decoded\n' in result.stdout
    assert 'val.rec: images with an EXIF orientation: 3, of which 2 are turned when decoded\n' in result.stdout
    files = json.loads((folder.parent / 'found.json').read_text())['files']
    assert [file['exif_orientation'] for file in files] == [{'tagged': 0, 'turned': 0}, {'tagged': 3, 'turned': 2}]


def test_empty_files(folder):
    for path in folder.iterdir():
        path.write_bytes(b'')
    result = check(folder)
    assert (result.returncode, result.stderr) == (1, '')
    assert f'{folder}/val.rec: contains no records\n' in result.stdout
    assert f'{folder}/val.idx: this index is empty' in result.stdout


def test_labels(folder):
    records = read_records(folder)
    wrong = {3: 10, 4: -1, 20: 2.5, 21: float('nan'), 22: float('inf'), 23: 16777216}
    begins = replace_records(
        folder,
        {number: pack_image(number, label, image_of(records[number])) for number, label in wrong.items()},
    )
    expected = [
        f'{folder}/val.rec: record {number} at byte {begins[number]}: label {label}, but classes.txt names 10 classes'
        for number, label in wrong.items()
    ]
    assert_found_and_repaired(folder, expected, without(records, *wrong))


def test_zeros_across_records(folder):
    """The first damaged record keeps its start, and the last one keeps its end, but neither is complete."""
    records = read_records(folder)
    content = bytearray((folder / 'val.rec').read_bytes())
    begin, end = records[10].begin + 300, records[12].begin + 100
    content[begin:end] = bytes(end - begin)
    (folder / 'val.rec').write_bytes(content)
    expected = [
        f'{folder}/val.rec: bytes {records[11].begin} to {records[13].begin} are not a record',
        f'{folder}/val.idx: 70 lines for 68 records',
        f'{folder}/val.idx: record 11 points at byte {records[11].begin}, where no record starts',
        f'{folder}/val.idx: record 12 points at byte {records[12].begin}, where no record starts',
    ]
    # The image is reported as cut short or as undecodable, depending on where the zeros begin.
    image_is_broken = f'{folder}/val.rec: record 10 at byte {records[10].begin}: '
    assert_found_and_repaired(folder, expected, without(records, 10, 11, 12), others=[image_is_broken])


def test_wrong_lengths(folder):
    """Neither the rest of such a record nor the records after it are misread."""
    records = read_records(folder)
    content = bytearray((folder / 'val.rec').read_bytes())
    gaps = {}
    for number, length in ((2, 0), (10, 4), (20, 30), (30, 5000), (40, 1_000_000)):
        begin, end = records[number].begin, records[number + 1].begin
        content[begin + 4 : begin + 8] = struct.pack('<I', length)
        is_shorter = length < len(records[number].data)
        gaps[number] = begin + (8 + (length + 3) // 4 * 4 if is_shorter else 0), end
    (folder / 'val.rec').write_bytes(content)
    expected = [f'{folder}/val.rec: bytes {begin} to {end} are not a record' for begin, end in gaps.values()]
    expected.append(f'{folder}/val.idx: 70 lines for 68 records')
    expected += [
        f'{folder}/val.idx: record {number} points at byte {gaps[number][0]}, where no record starts'
        for number in (30, 40)
    ]
    short = [f'{folder}/val.rec: record {number} at byte {records[number].begin}: ' for number in (2, 10, 20)]
    assert_found_and_repaired(folder, expected, without(records, *gaps), others=short)


@pytest.mark.parametrize('kept', [6, 8, 400, -1])
def test_truncated(folder, kept):
    """The file ends in the last record's header, right after the header, in its image, or before its last byte."""
    records = read_records(folder)
    begin = records[-1].begin
    end = begin + kept % len(records[-1].data)
    os.truncate(folder / 'val.rec', end)
    expected = [
        f'{folder}/val.rec: bytes {begin} to {end}, the end of the file, are not a complete record',
        f'{folder}/val.idx: 70 lines for 69 records',
        f'{folder}/val.idx: record 69 points at byte {begin}, where no record starts',
    ]
    assert_found_and_repaired(folder, expected, records[:-1])


def test_index_of_the_other_split(folder):
    records = read_records(folder)
    shutil.copy(folder / 'train.idx', folder / 'val.idx')
    nowhere, unknown = f'{folder}/val.idx: record ', f'{folder}/val.rec: the record at byte '
    expected = [f'{folder}/val.idx: 240 lines for 70 records']
    assert_found_and_repaired(folder, expected, records, others=[nowhere, unknown])


def test_index_line_removed(folder):
    records = read_records(folder)
    edit_index(folder, lambda lines: lines.pop(NUMBER))
    expected = [
        f'{folder}/val.idx: 69 lines for 70 records',
        f'{folder}/val.rec: the record at byte {records[NUMBER].begin} is not in the index',
    ]
    assert_found_and_repaired(folder, expected, records)


def test_broken_image_that_is_not_in_the_index(folder):
    records = read_records(folder)
    begin = replace_image(folder, b'x')
    edit_index(folder, lambda lines: lines.pop(NUMBER))
    expected = [
        f'{folder}/val.idx: 69 lines for 70 records',
        f'{folder}/val.rec: the record at byte {begin} is not in the index',
        f'{folder}/val.rec: record at byte {begin}, not in the index: image does not decode',
    ]
    assert_found_and_repaired(folder, expected, without(records, NUMBER))


def test_index_line_doubled(folder):
    records = read_records(folder)
    edit_index(folder, lambda lines: lines.insert(40, lines[NUMBER]))
    expected = [
        f'{folder}/val.idx: 71 lines for 70 records',
        f'{folder}/val.idx: record 40 points at byte {records[NUMBER].begin}, as record {NUMBER} does',
        f'{folder}/val.idx: record 40 has key {records[NUMBER].key}, as record {NUMBER} has',
    ]
    assert_found_and_repaired(folder, expected, records)
    assert check(folder.parent / 'new').returncode == 0


def test_key_doubled(folder):
    records = read_records(folder)
    write_records(
        folder,
        [records[5].key if number == NUMBER else record.key for number, record in enumerate(records)],
        [record.data for record in records],
    )
    expected = [f'{folder}/val.idx: record {NUMBER} has key {records[5].key}, as record 5 has']
    assert_found_and_repaired(folder, expected, records)


def test_index_in_another_order(folder):
    """A record's number is its line in the index, wherever the record is in the file."""
    records = read_records(folder)
    begin = replace_image(folder, b'x')
    edit_index(folder, lambda lines: lines.reverse())
    expected = [f'{folder}/val.rec: record {69 - NUMBER} at byte {begin}: image does not decode']
    assert_found_and_repaired(folder, expected, without(records, NUMBER))


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (
            lambda path: path.unlink(),
            'cannot read this index (No such file or directory)',
        ),
        (
            lambda path: path.write_bytes(b'\x89PNG\r\n'),
            'not an index (its lines should be',
        ),
    ],
    ids=['missing', 'of another kind'],
)
def test_no_index(folder, spoil, message):
    records = read_records(folder)
    spoil(folder / 'val.idx')
    assert_found_and_repaired(folder, [], records, others=[f'{folder}/val.idx: {message}'])


def test_keys_that_mean_nothing(folder):
    """If neither the index nor the records have distinct keys, the copy has new ones, and the list is left out."""
    data = [pack_image(0, 3, image_of(record)) for record in read_records(folder)]
    write_records(folder, [7] * len(data), data)
    (folder / 'classes.txt').unlink()
    result = check(folder, '--repair', folder.parent / 'new')
    assert result.returncode == 1
    assert 'val.lst: left out, its keys are not those of the records' in result.stdout
    copied = read_records(folder.parent / 'new')
    assert [record.key for record in copied] == list(range(70))
    assert [record.data for record in copied] == data
    assert not (folder.parent / 'new' / 'val.lst').exists()
    assert_well(folder.parent / 'new')


def test_ids_that_are_not_the_keys(folder):
    """The ids are not read if the record file has an index."""
    records = read_records(folder)
    write_records(
        folder, [record.key for record in records], [pack_image(0, 3, image_of(record)) for record in records]
    )
    (folder / 'classes.txt').unlink()
    assert_well(folder)


def test_class_without_image(folder):
    """Leaving out records does not fix this."""
    with (folder / 'classes.txt').open('a') as lines:
        lines.write('10_ten\n')
    result = check(folder, '--repair', folder.parent / 'new')
    assert result.returncode == 1
    assert f'{folder}/train.rec: no image of class 10, 10_ten\n' in result.stdout
    assert f'{folder}/val.rec: no image of class 10, 10_ten\n' in result.stdout
    assert f'{folder.parent}/new: not written, because a copy would fix nothing' in result.stdout
    assert not (folder.parent / 'new').exists()


def test_class_that_loses_its_only_image(folder):
    records = read_records(folder)
    data = [pack_image(record.key, 1, image_of(record)) for record in records[:-1]]
    write_records(folder, range(70), [*data, pack_image(69, 0, b'x')])
    (folder / 'classes.txt').write_text('zero\none\n')
    (folder / 'train.rec').unlink()
    result = check(folder, '--repair', folder.parent / 'new')
    assert 'val.rec: classes without an image in the copy: 1\n' in result.stdout
    assert 'val.rec: no image of class 0, zero' in check(folder.parent / 'new').stdout


def with_magic_number(image):
    """Return a JPEG with the magic number after its end. Writers split a record at this number."""
    padding = bytes(-(PAYLOAD_BYTES_BEFORE_IMAGE + len(image)) % 4)
    return image + padding + MAGIC_BYTES + b'1234' + MAGIC_BYTES


def test_record_in_pieces(folder):
    replace_image(folder, with_magic_number(image_of(read_records(folder)[NUMBER])))
    records = read_records(folder)
    assert records[NUMBER].data.count(MAGIC_BYTES) == 3
    begins = replace_records(folder, {3: pack_image(records[3].key, 2, b'x')})
    expected = [f'{folder}/val.rec: record 3 at byte {begins[3]}: image does not decode']
    assert_found_and_repaired(folder, expected, without(records, 3))


def test_piece_missing(folder):
    records = read_records(folder)
    data = pack_image(records[NUMBER].key, 2, with_magic_number(image_of(records[NUMBER])))
    last_piece = data.rindex(MAGIC_BYTES)
    begin = replace_records(folder, {NUMBER: data[:last_piece]})[NUMBER]
    expected = [
        f'{folder}/val.rec: bytes {begin} to {begin + last_piece} are not a record',
        f'{folder}/val.idx: 70 lines for 69 records',
        f'{folder}/val.idx: record {NUMBER} points at byte {begin}, where no record starts',
    ]
    assert_found_and_repaired(folder, expected, without(records, NUMBER))


def test_many_classes_are_summed_up(folder):
    """Of 40 classes, class 7 has one image, class 9 has five, and the others have three."""
    image = image_of(read_records(folder)[0])
    labels = [label for label in range(40) for _ in range({7: 1, 9: 5}.get(label, 3))]
    write_records(folder, range(len(labels)), [pack_image(key, label, image) for key, label in enumerate(labels)])
    (folder / 'classes.txt').write_text(''.join(f'name{label}\n' for label in range(40)))
    (folder / 'train.rec').unlink()
    result = check(folder)
    assert result.returncode == 0
    assert ['val', '40', '1', '3', '5'] in [line.split() for line in result.stdout.splitlines()]
    assert 'val, rarest: name7 (1), name0 (3)' in result.stdout
    assert 'val, most frequent: name9 (5), name39 (3)' in result.stdout


def test_words_of_imagenet_are_shown(folder):
    """The file has the names as they are, for programs."""
    names = ['n01440764', *(f'name{label}' for label in range(1, 10))]
    (folder / 'classes.txt').write_text('\n'.join(names))
    assert 'n01440764 tench, Tinca tinca' in check(folder, '--output', folder.parent / 'found.json').stdout
    assert json.loads((folder.parent / 'found.json').read_text())['classes'] == names


def test_output_holds_what_the_terminal_cuts(folder):
    write_records(folder, range(70), [pack_image(number, number % 10, b'x') for number in range(70)])
    output = folder.parent / 'problems.json'
    result = check(folder, '--output', output)
    assert result.returncode == 1
    assert result.stdout.count(': image does not decode') == 20
    assert '… and 50 more' in result.stdout
    train, val = json.loads(output.read_text())['files']
    assert (train['records'], train['index_lines'], train['problems']) == (240, 240, [])
    assert train['histogram'] == {str(label): 24 for label in range(10)}
    assert val['histogram'] == {str(label): 7 for label in range(10)}
    assert [problem['record'] for problem in val['problems']] == list(range(70))
    assert [problem['offset'] for problem in val['problems']] == read_index(folder / 'val.idx').tolist()
    assert {problem['kind'] for problem in val['problems']} == {'undecodable'}


def test_what_else_is_in_the_folder(folder):
    new = folder.parent / 'new'
    (folder / 'README.md').write_text('mine')
    (folder / 'dataset.json').write_text('{}')
    (folder / 'large.bin').write_bytes(bytes(2_000_000))
    edit_index(folder, lambda lines: lines.pop())
    # Left by a killed run.
    (folder.parent / '.new.partial').mkdir()
    (folder.parent / '.new.partial' / 'junk').touch()
    new.mkdir()
    result = check(folder, '--repair', new)
    assert 'dataset.json: left out' in result.stdout
    assert 'large.bin: left out' in result.stdout
    assert sorted(contents(new)) == sorted(set(contents(folder)) - {'dataset.json', 'large.bin'})
    assert not (folder.parent / '.new.partial').exists()


def test_nothing_to_repair(folder):
    result = check(folder, '--repair', folder.parent / 'new')
    assert result.returncode == 0
    assert 'new: not written, because a copy would fix nothing' in result.stdout
    assert not (folder.parent / 'new').exists()


def test_no_record_is_right(folder):
    (folder / 'val.rec').write_bytes(bytes(10_000))
    result = check(folder, '--repair', folder.parent / 'new')
    assert f'{folder}/val.rec: contains no records\n' in result.stdout
    assert f'{folder}/val.rec: bytes 0 to 10000, the end of the file, are not a complete record\n' in result.stdout
    assert_user_error(result, f'{folder}/val.rec: none of its records is intact')
    assert sorted(path.name for path in folder.parent.iterdir()) == ['data']


class TestBadInput:
    """Each mistake is reported in one line, with exit code 2, before any record is read."""

    def test_missing_folder(self, tmp_path):
        assert_user_error(check(tmp_path / 'none'), tmp_path / 'none', 'no such folder')

    def test_no_record_files(self, tmp_path):
        assert_user_error(check(tmp_path), tmp_path, 'no .rec file in this folder')

    def test_another_file(self, folder):
        assert_user_error(check(folder / 'classes.txt'), 'classes.txt: no such folder')

    def test_repair_folder_in_use(self, folder):
        other = shutil.copytree(folder, folder.parent / 'other')
        assert_user_error(check(folder, '--repair', other), f'--repair {other}: cannot be used (Directory not empty)')
        assert contents(other) == contents(folder)

    def test_repair_into_the_same_folder(self, folder):
        same = folder.parent / 'other' / '..' / 'data'
        assert_user_error(check(folder / 'val.rec', '--repair', same), 'this is the folder that is checked')

    def test_repair_where_no_folder_can_be_made(self, folder):
        new = folder / 'classes.txt' / 'new'
        assert_user_error(check(folder, '--repair', new), f'--repair {new}: cannot be made in')

    @pytest.mark.parametrize('output', ['train.rec', 'none/a.json', '.'])
    def test_output(self, folder, output):
        assert_user_error(check(folder, '--output', folder / output), f'--output {folder / output}: must be')

    def test_threads(self, folder):
        assert_user_error(check(folder, '--threads', '0'), '--threads 0: must be at least 1')
