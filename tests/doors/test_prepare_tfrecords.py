"""scripts/prepare_dataset.py: TFRecords become record files."""

import shutil
import sys

import pytest

from helpers.commands import PROJECT, assert_user_error, call_here, succeed_here
from helpers.datasets import contents, paths_in_list, read_records, skipped, stored_images, write_image
from helpers.tfrecords import example, imagenet_example, masked_checksum, write_shards, write_tree_as_tfrecords
from imagenet.datasets.decoding import decode_image

PROGRAM = PROJECT / 'scripts' / 'prepare_dataset.py'


def prepare(*arguments):
    return succeed_here(sys.executable, PROGRAM, *arguments)


def try_to_prepare(*arguments):
    return call_here(sys.executable, PROGRAM, *arguments)


@pytest.fixture
def tree(tmp_path):
    """Images of three synsets in several formats, one of them damaged."""
    for seed, split in enumerate(('train', 'val')):
        for name in ('n02123045', 'n01440764', 'n03000001'):
            for index, suffix in enumerate(('jpg', 'png', 'bmp', 'webp', 'JPEG', 'jpeg')):
                write_image(tmp_path / 'tree' / split / name / f'{name}_{index * 7}.{suffix}', seed=10 * index + seed)
    damaged = tmp_path / 'tree' / 'train' / 'n01440764' / 'n01440764_99.JPEG'
    damaged.write_bytes((damaged.parent / 'n01440764_0.jpg').read_bytes()[:-20])
    return tmp_path / 'tree'


@pytest.fixture
def raw(tree):
    """The same images as TFRecords."""
    return write_tree_as_tfrecords(tree, tree.parent / 'raw')


@pytest.mark.parametrize(
    'options',
    [
        (),
        ('--seed', '3'),
        ('--order', 'im2rec'),
        ('--resize', '20', '--quality', '80'),
    ],
)
def test_same_files_as_from_a_tree(tree, raw, tmp_path, options):
    prepare(tree, tmp_path / 'expected', *options)
    output = prepare(raw, tmp_path / 'out', *options)
    assert '18 training and 18 validation images, 3 classes' in output
    found, expected = contents(tmp_path / 'out'), contents(tmp_path / 'expected')
    for files in (found, expected):
        # These name files of the one form or the other.
        files.pop('skipped.txt')
        files.pop('dataset.json', None)
    assert found == expected
    assert (tmp_path / 'out' / 'classes.txt').read_text() == 'n01440764\nn02123045\nn03000001\n'


def test_skipped_images(raw, tmp_path):
    prepare(raw, tmp_path / 'out')
    ((place, reason),) = skipped(tmp_path / 'out').items()
    assert reason == 'cut short'
    shard, offset = place.split(':')
    # The place is that of the image's bytes.
    assert (raw / shard).read_bytes()[int(offset) :].startswith(b'\xff\xd8')


def test_split_of_training_files(tree, raw, tmp_path):
    for path in raw.glob('validation-*'):
        path.unlink()
    prepare(tree / 'train', tmp_path / 'expected', '--val-fraction', '0.4')
    prepare(raw, tmp_path / 'out', '--val-fraction', '0.4')
    for name in ('train.rec', 'val.rec', 'train.lst', 'val.lst', 'classes.txt'):
        assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'expected' / name).read_bytes()


def test_other_files_are_ignored(raw, tmp_path):
    (raw / 'train-00000-of-00003.idx').write_text('0 300')
    (raw / 'train-0-of-7').write_text('no record')
    (raw / 'train-00000-of-00099').mkdir()
    (raw / 'README').write_text('no record')
    assert '18 training and 18 validation images' in prepare(raw, tmp_path / 'out')


def write_pairs(folder, *examples):
    """Write the same Examples for both splits, each split in one file."""
    for prefix in ('train', 'validation'):
        write_shards(folder, prefix, examples, 1)
    return folder


@pytest.mark.parametrize(
    ('synset', 'text', 'expected'),
    [
        (b'n01440764', b'tench', ['n01440764']),
        (None, b'tench, Tinca tinca', ['tench, Tinca tinca']),
        (b'', b'tench', ['tench']),
        (None, None, ['class 0']),
        (None, b'two\nlines', ['two\\nlines']),
        (None, b'caf\xe9', ['caf\\udce9']),
    ],
)
def test_names_of_classes(tmp_path, synset, text, expected):
    image = write_image(tmp_path / 'a.jpg')
    raw = write_pairs(tmp_path / 'raw', imagenet_example(image, 1, synset, **{'class/text': text}))
    prepare(raw, tmp_path / 'out')
    assert (tmp_path / 'out' / 'classes.txt').read_text().splitlines() == expected


def test_labels_are_those_of_the_files(tmp_path):
    """They need not be in the order of the names."""
    images = [write_image(tmp_path / f'{index}.jpg', seed=index) for index in range(2)]
    raw = write_pairs(tmp_path / 'raw', imagenet_example(images[0], 2, b'cat'), imagenet_example(images[1], 1, b'dog'))
    prepare(raw, tmp_path / 'out')
    assert (tmp_path / 'out' / 'classes.txt').read_text().splitlines() == ['dog', 'cat']
    assert read_records(tmp_path / 'out', 'val') == [(0, images[1].read_bytes()), (1, images[0].read_bytes())]


def test_images_without_a_file_name(tmp_path):
    """They are named by their record, in its order."""
    images = [write_image(tmp_path / f'{index}.jpg', 20 + index, seed=index) for index in range(12)]
    raw = write_pairs(tmp_path / 'raw', *(imagenet_example(image, 1, b'cat', filename=None) for image in images))
    prepare(raw, tmp_path / 'out', '--resize', '25')
    assert paths_in_list(tmp_path / 'out', 'val')[0] == 'cat/validation-00000-of-00001:000000000000'
    heights = [decode_image(image).shape[0] for _, image in read_records(tmp_path / 'out', 'val')]
    assert heights == [20, 21, 22, 23, 24, *[25] * 7]


def test_names_of_files(tmp_path):
    image = write_image(tmp_path / 'a.jpg')
    names = (b'folder/a.jpg', b'a\tb.jpg', b'../../c.jpg')
    raw = write_pairs(tmp_path / 'raw', *(imagenet_example(image, 1, b'cat', filename=name) for name in names))
    prepare(raw, tmp_path / 'out')
    assert sorted(stored_images(tmp_path / 'out', 'val')) == ['cat/a.jpg', 'cat/a\\tb.jpg', 'cat/c.jpg']


def test_missing_files(raw, tmp_path):
    out = tmp_path / 'out'
    aside = shutil.move(str(raw / 'train-00001-of-00003'), str(tmp_path))
    assert_user_error(
        try_to_prepare(raw, out), raw, '1 of the 3 files train-*-of-00003 are missing: train-00001-of-00003'
    )
    shutil.move(aside, str(raw))
    (raw / 'train-00000-of-00004').write_bytes(b'')
    assert_user_error(try_to_prepare(raw, out), 'train-00000-of-00004', 'move one set away')
    (raw / 'train-00000-of-00004').unlink()
    assert_user_error(
        try_to_prepare(raw, out, '--val-fraction', '0.1'),
        '--val-fraction 0.1',
        'already split, into train-*-of-00003 and validation-*-of-00003',
    )
    for path in raw.glob('validation-*'):
        path.unlink()
    assert_user_error(try_to_prepare(raw, out), 'train-*-of-*, but not validation-*-of-*; add it', '--val-fraction')
    for path in raw.glob('train-*'):
        path.rename(raw / path.name.replace('train', 'validation'))
    assert_user_error(try_to_prepare(raw, out), 'contains validation-*-of-*, but not train-*-of-*; add it')
    assert not out.exists()


def test_different_classes(tmp_path):
    image = write_image(tmp_path / 'a.jpg')
    one, two = (imagenet_example(image, label, name) for label, name in ((1, b'cat'), (2, b'dog')))
    write_shards(tmp_path / 'raw', 'train', [one, two], 1)
    write_shards(tmp_path / 'raw', 'validation', [one], 1)
    assert_user_error(try_to_prepare(tmp_path / 'raw', tmp_path / 'out'), 'different classes', 'only in train: dog')
    one, two = (imagenet_example(image, label, name) for label, name in ((2, b'cat'), (1, b'dog')))
    write_shards(tmp_path / 'raw', 'validation', [one, two], 1)
    result = try_to_prepare(tmp_path / 'raw', tmp_path / 'out')
    assert_user_error(result, 'other labels', 'class 0 is cat in train and dog in val')


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        ([(1, b'cat'), (3, b'dog')], 'no image has label 2, but one has 3; labels must be 1 to N'),
        ([(1, b'cat'), (1 << 62, b'dog')], 'no image has label 2'),
        ([(1, b'cat'), (1, b'dog')], 'label 1 is class dog at'),
        ([(1, b'cat'), (2, b'cat')], 'class cat has label 2 and another one'),
        ([(1, b'cat'), (0, b'background')], 'label is 0; labels must be 1 to N, because 0 is the background class'),
        ([(1, b'cat'), (-1, b'dog')], 'label is -1; labels must be 1 to N'),
        ([(1, b'cat'), (None, b'dog')], 'has no image/class/label'),
        ([(1, b'cat'), ([], b'dog')], 'has no image/class/label'),
        ([(1, b'cat'), (2.5, b'dog')], 'image/class/label has values of another type'),
        ([(1, b'cat'), (2, b'n' * 5000)], 'image/class/synset has 5000 characters'),
    ],
)
def test_wrong_labels(tmp_path, labels, message):
    image = write_image(tmp_path / 'a.jpg')
    raw = write_pairs(tmp_path / 'raw', *(imagenet_example(image, *label) for label in labels))
    assert_user_error(try_to_prepare(raw, tmp_path / 'out'), raw, message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.jpg', 'raw']


def test_records_that_are_no_images(tmp_path):
    for payload, message in (
        (example({'class/label': 1}), 'has no image/encoded'),
        (example({'encoded': 3, 'class/label': 1}), 'image/encoded has values of another type'),
        (b'<html>404</html>', 'cannot be used'),
        (b'', 'has no image/encoded'),
    ):
        raw = write_pairs(tmp_path / 'raw', payload)
        assert_user_error(
            try_to_prepare(raw, tmp_path / 'out'), raw / 'train-00000-of-00001', 'the record at byte 0', message
        )
    for path in raw.iterdir():
        path.write_bytes(b'')
    assert_user_error(try_to_prepare(raw, tmp_path / 'out'), 'train-*-of-00001: no images in these files')


def changed(content, at, value):
    return content[:at] + value + content[at + len(value) :]


def test_damaged_files(raw, tmp_path):
    """Each message names the file and the record's offset."""
    path = raw / 'train-00002-of-00003'
    content = path.read_bytes()
    length = int.from_bytes(content[:8], 'little')
    second = length + 16
    huge = (1 << 60).to_bytes(8, 'little')
    large = (length + 10_000_000).to_bytes(8, 'little')
    for damaged, *expected in (
        (content[:-1], 'cut short'),
        (content[: second + 5], 'cut short', f'byte {second}'),
        (content[: second + 30], 'cut short', f'byte {second}'),
        (changed(content, 100, bytes(3)), 'the record at byte 0 has a wrong checksum'),
        (changed(content, second + 100, b'xxx'), f'the record at byte {second} has a wrong checksum'),
        (changed(content, length + 12, b'\0\0\0\0'), 'the record at byte 0 has a wrong checksum'),
        (changed(content, second, b'\0\0'), f'the length at byte {second} has a wrong checksum'),
        (huge + masked_checksum(huge) + content, f'the record at byte 0 has {1 << 60} bytes'),
        (
            content + large + masked_checksum(large),
            f'the record at byte {len(content)} has {length + 10_000_000} bytes',
        ),
        (b'<!DOCTYPE html><html>404</html>', 'byte 0', 'not a TFRecord'),
        (b'x', 'cut short in the record at byte 0'),
    ):
        path.write_bytes(damaged)
        assert_user_error(try_to_prepare(raw, tmp_path / 'out'), path, *expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['raw', 'tree']


def test_record_too_large_for_memory(raw, tmp_path):
    """It is refused by its length; the file is sparse."""
    path = raw / 'train-00002-of-00003'
    length = (1 << 31).to_bytes(8, 'little')
    with path.open('wb') as file:
        file.write(length + masked_checksum(length))
        file.truncate((1 << 31) + 100)
    assert_user_error(try_to_prepare(raw, tmp_path / 'out'), path, 'byte 0', 'that cannot be an image')


def test_empty_file_among_others(raw, tmp_path):
    """A converter with more files than images leaves some empty."""
    path = raw / 'train-00002-of-00003'
    first = raw / 'train-00000-of-00003'
    first.write_bytes(first.read_bytes() + path.read_bytes())
    path.write_bytes(b'')
    assert '18 training and 18 validation images' in prepare(raw, tmp_path / 'out')
