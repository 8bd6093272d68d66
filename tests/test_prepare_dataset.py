"""scripts/prepare_dataset.py: any image tree to record files, in a run that may be stopped and go on."""

import json
import os
import pty
import resource
import signal
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from conftest import PROJECT, assert_user_error, call, succeed
from patience import wait_until
from test_prepare import FILES, read_records

from imagenet.datasets.decoding import decode_image
from imagenet.datasets.records import read_index

PROGRAM = PROJECT / 'scripts' / 'prepare_dataset.py'
# The tests stop runs between the two.
IMAGES_IN_LARGE_TREE, IMAGES_BETWEEN_SAVES = 1800, 512


def prepare(*arguments):
    return succeed(sys.executable, PROGRAM, *arguments)


def try_to_prepare(*arguments, **settings):
    return call(sys.executable, PROGRAM, *arguments, **settings)


def random_image(height, width, seed=0):
    """Smooth colours, which a JPEG keeps."""
    colours = np.random.RandomState(seed).randint(0, 256, (3, 3, 3), dtype=np.uint8)
    return cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR)


def write_image(path, height=24, width=32, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), random_image(height, width, seed))
    return path


def write_classes(root, counts):
    """A tree of as many images as the counts say, by class; all differ."""
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(root / name / f'{index}.jpg', seed=1000 * number + index)
    return root


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def description(folder):
    return json.loads((folder / 'dataset.json').read_text())


def skipped(folder):
    """{path: reason}"""
    return dict(line.split('\t') for line in (folder / 'skipped.txt').read_text().splitlines())


def paths_in_list(folder, split):
    return [line.split('\t')[2] for line in (folder / f'{split}.lst').read_text().splitlines()]


def stored_images(folder, split):
    """{path: encoded image}"""
    return dict(zip(paths_in_list(folder, split), (image for _, image in read_records(folder, split))))


def link_copies(source, folder, count):
    """Many files that take no room."""
    folder.mkdir(parents=True)
    for index in range(count):
        os.link(source, folder / f'{index:06}.jpg')


@pytest.fixture
def split_tree(tmp_path):
    """Two classes in two splits."""
    for split in ('train', 'val'):
        write_classes(tmp_path / 'raw' / split, {'cat': 4, 'dog': 4})
    return tmp_path / 'raw'


@pytest.fixture(scope='session')
def large_tree(tmp_path_factory):
    """Classes of images that take a millisecond each, and of files that are skipped."""
    root = tmp_path_factory.mktemp('large')
    noise = np.random.RandomState(0).randint(0, 256, (200, 200, 3), dtype=np.uint8)
    cv2.imwrite(str(root / 'noise.jpg'), noise)
    for name in ('a', 'b', 'c'):
        link_copies(root / 'noise.jpg', root / 'raw' / name, IMAGES_IN_LARGE_TREE // 3)
        for index in range(10):
            (root / 'raw' / name / f'damaged{index}.jpg').write_text('no image')
        (root / 'raw' / name / 'notes.txt').write_text('no image')
    return root / 'raw'


LARGE_OPTIONS = ('--val-fraction', '0.2', '--threads', '1')


@pytest.fixture(scope='session')
def large_data(large_tree):
    """What an uninterrupted run makes of the large tree."""
    out = large_tree.parent / 'data'
    prepare(large_tree, out, *LARGE_OPTIONS, '--threads', '3')
    return out


def wait_for(process, work, num_done):
    """Until the state of a run has so many images."""
    state = work / 'state.json'

    def is_reached():
        return state.exists() and sum(json.loads(state.read_text())['done'].values()) >= num_done

    wait_until(is_reached, process)


# What is packed


def test_makes_what_prepare_imagenet_makes(small_tree, small_data, tmp_path):
    out = tmp_path / 'out'
    output = prepare(small_tree, out)
    assert f'{out}: 240 training and 70 validation images, 10 classes' in output
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, 'dataset.json'])
    for name in ('classes.txt', 'val.rec', 'val.idx', 'val.lst'):
        assert (out / name).read_bytes() == (small_data / name).read_bytes()
    records = read_records(out, 'train')
    assert Counter(records) == Counter(read_records(small_data, 'train'))
    # The lists say what the records are.
    lines = [line.split('\t') for line in (out / 'train.lst').read_text().splitlines()]
    assert [int(key) for key, _, _ in lines] == list(range(240))
    assert records == [(int(float(label)), (small_tree / 'train' / path).read_bytes()) for _, label, path in lines]
    assert (np.diff(read_index(out / 'train.idx')) > 0).all()


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
    """Of the first 1000 training images, all counting alike, and in the order red, green, blue."""
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


def test_shuffling_leaves_no_order(large_data):
    """Of two images that follow each other, the second is as often a later one of the tree as an earlier one."""
    order = np.argsort(np.argsort(paths_in_list(large_data, 'train')))
    assert 0.45 < (np.diff(order) > 0).mean() < 0.55


def test_nested_classes_in_the_order_of_im2rec(tmp_path):
    for split in ('train-jpeg', 'val-jpeg'):
        write_classes(tmp_path / 'raw' / split, dict.fromkeys(('animal/cat', 'animal', 'animal-x', 'Zoo'), 2))
    prepare(tmp_path / 'raw', tmp_path / 'out')
    succeed('scripts/prepare_imagenet.sh', tmp_path / 'raw', tmp_path / 'expected')
    for name in ('classes.txt', 'val.rec'):
        assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'expected' / name).read_bytes()
    assert (tmp_path / 'out' / 'classes.txt').read_text().splitlines() == ['Zoo', 'animal', 'animal/cat', 'animal-x']


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
    # Nothing is gained by touching these.
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
    """JPEG and PNG are kept as they are, told by their content; what MXNet might not read becomes a JPEG."""
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


# What is not packed


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
    # Not even from the libraries that decode.
    assert result.stderr == ''
    assert f'files skipped: 9, listed in {tmp_path / "out" / "skipped.txt"}' in result.stdout
    assert skipped(tmp_path / 'out') == {
        'train/cat/text.jpg': 'cannot be decoded',
        'train/cat/empty.png': 'cannot be decoded',
        'train/cat/cut.jpg': 'cut short',
        'train/cat/cut.png': 'cannot be decoded',
        'train/cat/notes.txt': 'not an image, by its name',
        'train/cat/.hidden.jpg': 'a hidden file',
        'train/cat/broken.jpg': 'cannot be read (No such file or directory)',
        'train/cat/pipe.jpg': 'not a file',
        'val/.thumbnails': 'a hidden folder',
    }
    found = description(tmp_path / 'out')
    assert found['skipped'] == 9
    assert found['train']['images_per_class'] == found['val']['images_per_class'] == {'cat': 4, 'dog': 4}
    assert len(read_records(tmp_path / 'out', 'train')) == 8


def test_odd_names(split_tree, tmp_path):
    folder = split_tree / 'val' / 'cat'
    jpeg = (folder / '0.jpg').read_bytes()
    out = tmp_path / os.fsdecode(b'\xe9')
    latin = os.fsdecode(b'caf\xe9.jpg')
    for name in ('a\tb.jpg', 'a\nb.jpg', 'a\u2028b.jpg', 'ü ñ.jpg', latin, os.fsdecode(b'\xe9.txt')):
        (folder / name).write_bytes(jpeg)
    prepare(split_tree, out)
    found = skipped(out)
    assert set(found) == {'val/cat/a\\tb.jpg', 'val/cat/a\\nb.jpg', 'val/cat/a\\u2028b.jpg', 'val/cat/\\udce9.txt'}
    assert 'a tab or a line break' in found['val/cat/a\\tb.jpg']
    listed = (out / 'val.lst').read_bytes().splitlines()
    assert sum(line.endswith((b'\tcat/caf\xe9.jpg', '\tcat/ü ñ.jpg'.encode())) for line in listed) == 2
    # MXNet finds no file in a folder of such a name.
    out.rename(tmp_path / 'out')
    assert len(read_records(tmp_path / 'out', 'val')) == 10


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
    # Nothing was done that is worth keeping.
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
        try_to_prepare(split_tree, out, '--val-fraction', '0.1'), '--val-fraction 0.1', 'is split already'
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
    # An empty folder is nobody's work.
    prepare(split_tree, out)
    before = contents(out)
    assert_user_error(try_to_prepare(split_tree, out), out, 'not empty')
    assert contents(out) == before


# Runs that are stopped


def test_killed_run_goes_on(start, large_tree, large_data, tmp_path):
    """Three runs, two of them killed, make the files of one."""
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    for num_done in (IMAGES_BETWEEN_SAVES, 2 * IMAGES_BETWEEN_SAVES):
        process = start(sys.executable, PROGRAM, large_tree, out, *LARGE_OPTIONS, stderr=subprocess.PIPE)
        wait_for(process, work, num_done)
        process.kill()
        process.communicate()
        assert not out.exists()
    output = prepare(large_tree, out, *LARGE_OPTIONS)
    (line,) = (line for line in output.splitlines() if line.startswith('resuming: '))
    assert 2 * IMAGES_BETWEEN_SAVES * 0.9 < int(line.split()[1]) <= IMAGES_IN_LARGE_TREE
    assert contents(out) == contents(large_data)
    assert not work.exists()


def test_interrupted_run_goes_on(start, large_tree, large_data, tmp_path):
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    process = start(sys.executable, PROGRAM, large_tree, out, *LARGE_OPTIONS, stderr=subprocess.PIPE)
    wait_for(process, work, IMAGES_BETWEEN_SAVES)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert errors == f'interrupted: the work so far is kept in {work}, and the same command goes on from there\n'
    # Threads are no part of what the files are made of.
    assert 'resuming: ' in prepare(large_tree, out, *LARGE_OPTIONS, '--threads', '2')
    assert contents(out) == contents(large_data)


def test_full_disk(large_tree, large_data, tmp_path):
    """As on a full disk, a file cannot grow any more."""
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    limit = (large_data / 'train.rec').stat().st_size * 2 // 3

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    result = try_to_prepare(large_tree, out, *LARGE_OPTIONS, preexec_fn=limit_files)
    assert_user_error(result, work, 'cannot write', 'the work so far is kept')
    assert not out.exists()
    assert 'resuming: ' in prepare(large_tree, out, *LARGE_OPTIONS)
    assert contents(out) == contents(large_data)


def test_stopped_run_keeps_others_out(start, large_tree, large_data, tmp_path):
    """Both a second run at the same time, and one with other options later."""
    out, work = tmp_path / 'out', tmp_path / '.out.partial'
    process = start(sys.executable, PROGRAM, large_tree, out, *LARGE_OPTIONS, stderr=subprocess.PIPE)
    wait_for(process, work, IMAGES_BETWEEN_SAVES)
    process.send_signal(signal.SIGSTOP)
    assert_user_error(try_to_prepare(large_tree, out, *LARGE_OPTIONS), work, 'another run is at work')
    process.kill()
    process.communicate()
    result = try_to_prepare(large_tree, out, *LARGE_OPTIONS, '--seed', '5')
    assert_user_error(result, work, 'other options', 'seed was 0, is 5', 'remove')
    result = try_to_prepare(large_tree.parent, out, *LARGE_OPTIONS)
    assert_user_error(result, 'other options', large_tree.parent)
    prepare(large_tree, out, *LARGE_OPTIONS)
    assert contents(out) == contents(large_data)


def test_progress_bar_on_a_terminal(start, split_tree, tmp_path):
    (split_tree / 'train' / 'cat' / 'cut.jpg').write_bytes((split_tree / 'train' / 'cat' / '0.jpg').read_bytes()[:-50])
    master, terminal = pty.openpty()
    process = start(sys.executable, PROGRAM, split_tree, tmp_path / 'out', stderr=terminal)
    os.close(terminal)
    shown = b''
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:  # the other end of a pseudo-terminal is closed
        pass
    os.close(master)
    process.communicate()
    assert process.returncode == 0
    shown = shown.decode()
    assert '0/9 [' in shown
    assert 'images/s' in shown
    assert 'JPEG' not in shown


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    source = write_image(tmp_path / 'source.jpg', 8, 8)
    program = (
        'import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); '
        'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'
    )
    kilobytes = {}
    for count in (1000, 20000):
        raw = tmp_path / str(count)
        for number in range(10):
            link_copies(source, raw / f'class{number}', count // 10)
        command = (sys.executable, PROGRAM, raw, tmp_path / f'out{count}', '--val-fraction', '0.1')
        kilobytes[count] = int(succeed(sys.executable, '-c', program, *command))
    assert kilobytes[20000] < kilobytes[1000] + 20_000
