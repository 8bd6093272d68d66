"""scripts/prepare_dataset.py: any image tree becomes record files."""

import os
import sys

import cv2
import numpy as np
import pytest

from helpers.commands import PROJECT, assert_user_error, call_here, succeed_here
from helpers.datasets import (
    contents,
    description,
    link_copies,
    paths_in_list,
    random_image,
    read_records,
    skipped,
    stored_images,
    write_classes,
    write_image,
)
from imagenet.datasets.decoding import decode_image

PROGRAM = PROJECT / 'scripts' / 'prepare_dataset.py'


def prepare(*arguments):
    return succeed_here(sys.executable, PROGRAM, *arguments)


def try_to_prepare(*arguments, **settings):
    return call_here(sys.executable, PROGRAM, *arguments, **settings)


def test_description(small_tree, tmp_path):
    out = tmp_path / 'out'
    prepare(small_tree, out, '--seed', '3')
    classes = sorted(folder.name for folder in (small_tree / 'train').iterdir())
    found = description(out)
    assert found['classes'] == classes
    assert found['train'] == {'images': 240, 'images_per_class': dict.fromkeys(classes, 24)}
    assert found['val'] == {'images': 70, 'images_per_class': dict.fromkeys(classes, 7)}
    assert found['skipped'] == 0
    assert found['options'] == {
        'raw': str(small_tree),
        'val_fraction': None,
        'resize': None,
        'quality': 95,
        'seed': 3,
    }


def test_mean_and_std_of_a_sample(tmp_path):
    """Computed over the first 1000 training images, with equal weight per image, in the order red, green, blue."""
    images = [write_image(tmp_path / 'sizes' / f'{size}.png', size, 2 * size, seed=size) for size in (8, 16, 24)]
    for number, image in enumerate(images):
        link_copies(image, tmp_path / 'raw' / f'class{number}', 400)
    prepare(tmp_path / 'raw', tmp_path / 'out', '--val-fraction', '0.1')
    found = description(tmp_path / 'out')
    assert found['rgb_sample'] == 1000
    sample = [decode_image(image) for _, image in read_records(tmp_path / 'out', 'train')[:1000]]
    pixels = [image.reshape(-1, 3)[:, ::-1].astype(float) for image in sample]
    mean = np.mean([image.mean(axis=0) for image in pixels], axis=0)
    std = np.sqrt(np.mean([((image - mean) ** 2).mean(axis=0) for image in pixels], axis=0))
    np.testing.assert_allclose(found['rgb_mean'], mean, atol=0.001)
    np.testing.assert_allclose(found['rgb_std'], std, atol=0.001)


def test_training_images_are_shuffled_by_the_seed(small_tree, tmp_path):
    orders = []
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        prepare(small_tree, tmp_path / name, '--seed', seed)
        orders.append(paths_in_list(tmp_path / name, 'train'))
        assert paths_in_list(tmp_path / name, 'val') == sorted(paths_in_list(tmp_path / name, 'val'))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert sorted(orders[0]) not in orders


def test_val_fraction_takes_its_part_of_each_class(tmp_path):
    counts = {'a': 20, 'b': 7, 'c': 3, 'd': 2}
    raw = write_classes(tmp_path / 'raw', counts)
    chosen = []
    for name, seed in (('one', 0), ('two', 0), ('three', 1)):
        prepare(raw, tmp_path / name, '--val-fraction', '0.3', '--seed', seed)
        found = description(tmp_path / name)
        assert found['val']['images_per_class'] == {'a': 6, 'b': 2, 'c': 1, 'd': 1}
        assert found['train']['images_per_class'] == {'a': 14, 'b': 5, 'c': 2, 'd': 1}
        train, val = (paths_in_list(tmp_path / name, split) for split in ('train', 'val'))
        assert len(set(train + val)) == sum(counts.values())
        chosen.append(val)
    assert chosen[0] == chosen[1] != chosen[2]


def test_val_fraction_leaves_images_for_training(tmp_path):
    raw = write_classes(tmp_path / 'raw', {'a': 20, 'b': 2})
    prepare(raw, tmp_path / 'out', '--val-fraction', '0.99')
    assert description(tmp_path / 'out')['train']['images_per_class'] == {'a': 1, 'b': 1}


def test_resize(tmp_path):
    raw = tmp_path / 'raw'
    sizes = {
        'wide.jpg': (40, 60),
        'high.png': (70, 40),
        'even.bmp': (33, 33),
        'small.jpg': (20, 60),
        'tiny.png': (9, 7),
    }
    for name, size in sizes.items():
        write_image(raw / 'a' / name, *size)
    write_image(raw / 'a' / 'other.jpg')
    prepare(raw, tmp_path / 'out', '--val-fraction', '0.01', '--resize', '20')
    stored = {**stored_images(tmp_path / 'out', 'train'), **stored_images(tmp_path / 'out', 'val')}
    found = {name: stored[f'a/{name}'] for name in sizes}
    shapes = {name: decode_image(found[name]).shape[:2] for name in sizes}
    assert shapes == {
        'wide.jpg': (20, 30),
        'high.png': (35, 20),
        'even.bmp': (20, 20),
        'small.jpg': (20, 60),
        'tiny.png': (9, 7),
    }
    assert all(found[name].startswith(b'\xff\xd8') for name in ('wide.jpg', 'high.png', 'even.bmp'))
    # These are no larger than the target, so they are kept unchanged.
    for name in ('small.jpg', 'tiny.png'):
        assert found[name] == (raw / 'a' / name).read_bytes()
    wide = cv2.resize(decode_image((raw / 'a' / 'wide.jpg').read_bytes()), (30, 20), interpolation=cv2.INTER_AREA)
    assert np.abs(decode_image(found['wide.jpg']).astype(int) - wide).mean() < 5


def test_quality(tmp_path):
    raw = tmp_path / 'raw'
    for index in range(4):
        write_image(raw / 'a' / f'{index}.jpg', 200, 200, seed=index)
    sizes = {}
    for quality in (20, 95):
        out = tmp_path / str(quality)
        prepare(raw, out, '--val-fraction', '0.5', '--resize', '100', '--quality', quality)
        sizes[quality] = (out / 'train.rec').stat().st_size
    assert sizes[20] < 0.7 * sizes[95]


def test_formats(tmp_path, split_tree):
    """JPEG and PNG, recognized by their content, are kept unchanged; formats that MXNet might not read become JPEG."""
    names = ('a.png', 'b.bmp', 'c.TIF', 'd.tiff', 'e.webp', 'bmp.jpg', 'png.JPEG')
    image = random_image(64, 64)
    for name in names:
        stem, suffix = name.lower().split('.')
        encoded = cv2.imencode(f'.{stem if len(stem) > 1 else suffix}', image)[1].tobytes()
        (split_tree / 'val' / 'cat' / name).write_bytes(encoded)
    prepare(split_tree, tmp_path / 'out')
    stored = stored_images(tmp_path / 'out', 'val')
    for name in ('a.png', 'png.JPEG'):
        assert stored[f'cat/{name}'] == (split_tree / 'val' / 'cat' / name).read_bytes()
    for name in set(names) - {'a.png', 'png.JPEG'}:
        assert stored[f'cat/{name}'].startswith(b'\xff\xd8\xff')
        assert np.abs(decode_image(stored[f'cat/{name}']).astype(int) - image).mean() < 5


def test_skipped_files_are_counted_and_listed(split_tree, tmp_path):
    folder = split_tree / 'train' / 'cat'
    jpeg = (folder / '0.jpg').read_bytes()
    png = cv2.imencode('.png', random_image(64, 64))[1].tobytes()
    (folder / 'text.jpg').write_text('no image')
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'cut.jpg').write_bytes(jpeg[:-20])
    (folder / 'cut.png').write_bytes(png[: len(png) // 2])
    (folder / 'notes.txt').write_text('no image')
    (folder / '.hidden.jpg').write_bytes(jpeg)
    (folder / 'broken.jpg').symlink_to('nowhere')
    os.mkfifo(folder / 'pipe.jpg')
    (split_tree / 'val' / '.thumbnails').mkdir()
    (split_tree / 'val' / '.thumbnails' / '0.jpg').write_bytes(jpeg)
    result = try_to_prepare(split_tree, tmp_path / 'out')
    assert result.returncode == 0
    # The decoding libraries do not print anything either.
    assert result.stderr == ''
    assert f'files skipped: 9, listed in {tmp_path / "out" / "skipped.txt"}' in result.stdout
    assert skipped(tmp_path / 'out') == {
        'train/cat/text.jpg': 'cannot be decoded',
        'train/cat/empty.png': 'cannot be decoded',
        'train/cat/cut.jpg': 'cut short',
        'train/cat/cut.png': 'cannot be decoded',
        'train/cat/notes.txt': 'not an image, judging by its name',
        'train/cat/.hidden.jpg': 'a hidden file',
        'train/cat/broken.jpg': 'cannot be read (No such file or directory)',
        'train/cat/pipe.jpg': 'not a file',
        'val/.thumbnails': 'a hidden folder',
    }
    found = description(tmp_path / 'out')
    assert found['skipped'] == 9
    assert found['train']['images_per_class'] == found['val']['images_per_class'] == {'cat': 4, 'dog': 4}
    assert len(read_records(tmp_path / 'out', 'train')) == 8


@pytest.mark.parametrize(('name', 'message'), [(b'a\nb', 'a tab or a line break'), (b'caf\xe9', 'not valid UTF-8')])
def test_class_that_cannot_be_named(split_tree, tmp_path, name, message):
    for split in ('train', 'val'):
        (split_tree / split / 'cat').rename(split_tree / split / os.fsdecode(name))
    assert_user_error(try_to_prepare(split_tree, tmp_path / 'out'), message, 'rename the folder')


def test_class_whose_images_are_all_damaged(split_tree, tmp_path):
    for image in (split_tree / 'val' / 'dog').iterdir():
        image.write_bytes(image.read_bytes()[:300])
    result = try_to_prepare(split_tree, tmp_path / 'out')
    assert_user_error(result, 'dog: no usable val image', 'skipped.txt')
    assert not (tmp_path / 'out').exists()


def test_class_without_images(split_tree, tmp_path):
    (split_tree / 'val' / 'horse').mkdir()
    (split_tree / 'val' / 'horse' / 'readme.txt').write_text('no image')
    assert_user_error(try_to_prepare(split_tree, tmp_path / 'out'), 'val/horse', 'without images')
    # Nothing was worth keeping for a later run.
    assert sorted(path.name for path in tmp_path.iterdir()) == ['raw']


def test_different_classes(split_tree, tmp_path):
    (split_tree / 'val' / 'cat').rename(split_tree / 'val' / 'lion')
    result = try_to_prepare(split_tree, tmp_path / 'out')
    assert_user_error(result, 'different classes', 'only in train: cat', 'only in val: lion')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['raw']


def test_class_too_small_to_be_split(tmp_path):
    raw = write_classes(tmp_path / 'raw', {'a': 5, 'single': 1})
    result = try_to_prepare(raw, tmp_path / 'out', '--val-fraction', '0.5')
    assert_user_error(result, 'different classes', 'only in train: single')


def test_images_outside_of_class_folders(tmp_path):
    raw = write_classes(tmp_path / 'raw', {'.': 4, 'a': 4})
    assert_user_error(try_to_prepare(raw, tmp_path / 'out', '--val-fraction', '0.5'), 'a folder per class')


def test_wrong_folders(split_tree, tmp_path):
    out = tmp_path / 'out'
    assert_user_error(try_to_prepare(tmp_path / 'none', out), 'none: no such folder')
    assert_user_error(try_to_prepare(split_tree / 'train', out), 'train and val', '--val-fraction')
    assert_user_error(
        try_to_prepare(split_tree, out, '--val-fraction', '0.1'), '--val-fraction 0.1', 'is already split'
    )
    (tmp_path / 'empty' / 'sub').mkdir(parents=True)
    assert_user_error(try_to_prepare(tmp_path / 'empty' / 'sub', out, '--val-fraction', '0.1'), 'no image')


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('--val-fraction', '1'),
        ('--val-fraction', 'nan'),
        ('--resize', '0'),
        ('--threads', 'many'),
    ],
)
def test_wrong_options(split_tree, tmp_path, option, value):
    assert_user_error(try_to_prepare(split_tree, tmp_path / 'out', f'{option}={value}'), option, value)


def test_existing_data_set_is_left_alone(split_tree, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    # An empty folder may be used, as there is nothing to overwrite.
    prepare(split_tree, out)
    before = contents(out)
    assert_user_error(try_to_prepare(split_tree, out), out, 'not empty')
    assert contents(out) == before
