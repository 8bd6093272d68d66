"""scripts/prepare_dataset.py: ImageNet's archives become record files without being unpacked."""

import gzip
import os
import shutil
import sys
import tarfile

import pytest

from helpers.commands import PROJECT, assert_user_error, call_here, succeed_here
from helpers.datasets import contents, description, read_records, skipped, write_image
from helpers.imagenet_archives import (
    DEVKIT,
    meta,
    tar_of,
    write_archives,
    write_devkit,
    write_tar,
    write_training_archive,
)

PROGRAM = PROJECT / 'scripts' / 'prepare_dataset.py'
# In the order of their numbers. ImageNet has the first two, and no unicorns.
WORDS = {
    'n02123045': 'tabby, tabby cat',
    'n01440764': 'tench, Tinca tinca',
    'n99000001': 'unicorn, monoceros',
}
TRAIN, VAL = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'


def prepare(*arguments):
    return succeed_here(sys.executable, PROGRAM, *arguments)


def try_to_prepare(*arguments):
    return call_here(sys.executable, PROGRAM, *arguments)


@pytest.fixture
def tree(tmp_path):
    """Training images in several formats, one of them damaged, and validation images with classes in mixed order."""
    root = tmp_path / 'tree'
    for number, name in enumerate(WORDS):
        for index, suffix in enumerate(('JPEG', 'png', 'bmp', 'JPEG', 'JPEG')):
            write_image(root / 'train' / name / f'{name}_{index * 7}.{suffix}', seed=10 * number + index)
    for index, number in enumerate((2, 0, 1, 1, 2, 0, 0)):
        write_image(root / 'val' / list(WORDS)[number] / f'ILSVRC2012_val_{index + 1:08}.JPEG', seed=100 + index)
    damaged = root / 'train' / 'n01440764' / 'n01440764_99.JPEG'
    damaged.write_bytes((damaged.parent / 'n01440764_0.JPEG').read_bytes()[:-20])
    (damaged.parent / 'notes.txt').write_text('no image')
    return root


@pytest.fixture
def raw(tree, tmp_path):
    return write_archives(tree, tmp_path / 'raw', WORDS)


def assert_like_the_tree(out, tree, *options):
    """Assert that the data set has the record files and lists of the tree."""
    prepare(tree, out.parent / 'expected', *options)
    found, expected = contents(out), contents(out.parent / 'expected')
    names = [f'{split}.{suffix}' for split in ('train', 'val') for suffix in ('rec', 'idx', 'lst')]
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}


@pytest.mark.parametrize('options', [(), ('--seed', '3'), ('--order', 'im2rec'), ('--resize', '20')])
def test_same_files_as_from_a_tree(tree, raw, tmp_path, options):
    out = tmp_path / 'out'
    assert '15 training and 7 validation images, 3 classes' in prepare(raw, out, *options)
    assert_like_the_tree(out, tree, *options)
    assert skipped(out) == {
        f'{TRAIN}/n01440764/n01440764_99.JPEG': 'cut short',
        f'{TRAIN}/n01440764/notes.txt': 'not an image, judging by its name',
    }
    # The words of ImageNet's own classes are known wherever they are shown.
    assert (out / 'classes.txt').read_text().splitlines() == ['n01440764', 'n02123045', 'n99000001 unicorn, monoceros']


def test_nothing_is_unpacked(raw, tmp_path):
    before = sorted(path.name for path in raw.iterdir())
    prepare(raw, tmp_path / 'out')
    assert sorted(path.name for path in raw.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'raw', 'tree']


def test_words_are_shown(raw, tmp_path):
    prepare(raw, tmp_path / 'out')
    shown = succeed_here(sys.executable, 'scripts/check_dataset.py', tmp_path / 'out')
    assert 'n01440764 tench, Tinca tinca' in shown
    assert 'n99000001 unicorn, monoceros' in shown
    assert 'n99000001 unicorn, monoceros' in description(tmp_path / 'out')['train']['images_per_class']


def test_split_of_the_training_archive(tree, raw, tmp_path):
    (raw / VAL).unlink()
    (raw / f'{DEVKIT}.tar.gz').unlink()
    prepare(raw, tmp_path / 'out', '--val-fraction', '0.4')
    prepare(tree / 'train', tmp_path / 'expected', '--val-fraction', '0.4')
    for name in ('train.rec', 'val.rec', 'classes.txt'):
        assert (tmp_path / 'out' / name).read_bytes() == (tmp_path / 'expected' / name).read_bytes()


@pytest.mark.parametrize('is_unpacked', [False, True])
def test_folder_of_validation_images(tree, raw, tmp_path, is_unpacked):
    """The training images are in class folders, the validation images are not."""
    flat = tmp_path / 'flat'
    shutil.copytree(tree / 'train', flat / 'train')
    (flat / 'val').mkdir()
    for path in (tree / 'val').glob('*/*'):
        shutil.copy(path, flat / 'val')
    (flat / 'val' / 'notes.txt').write_text('no image')
    result = try_to_prepare(flat, tmp_path / 'out')
    assert_user_error(result, flat / 'val', 'in no class folders', f'download {DEVKIT}.tar.gz', f'into {flat}')
    with tarfile.open(raw / f'{DEVKIT}.tar.gz') as archive:
        archive.extractall(flat) if is_unpacked else shutil.copy(archive.name, flat)
    prepare(flat, tmp_path / 'out')
    assert_like_the_tree(tmp_path / 'out', tree)
    assert skipped(tmp_path / 'out')['val/notes.txt'] == 'not an image, judging by its name'
    assert (tmp_path / 'out' / 'classes.txt').read_text().splitlines()[2] == 'n99000001 unicorn, monoceros'


def test_names_of_other_archivers(tree, raw, tmp_path):
    """Archives with folders' entries, names that begin with `./`, long names, and extended headers."""
    folder = tarfile.TarInfo('./')
    folder.type = tarfile.DIRTYPE
    images = {path.name: path.read_bytes() for path in (tree / 'val').glob('*/*')}
    write_tar(raw / VAL, {'./': folder, **{f'./{name}': image for name, image in images.items()}})
    with tarfile.open(raw / TRAIN, 'w', format=tarfile.PAX_FORMAT) as outer:
        for path in sorted((tree / 'train').iterdir()):
            inner = tmp_path / f'{path.name}.tar'
            with tarfile.open(inner, 'w', format=tarfile.PAX_FORMAT) as archive:
                for image in path.iterdir():
                    archive.add(image, image.name)
            outer.add(inner, inner.name)
            inner.unlink()
    prepare(raw, tmp_path / 'out')
    assert_like_the_tree(tmp_path / 'out', tree)
    long = tree / 'train' / 'n01440764' / f'{"x" * 200}.JPEG'
    write_image(long)
    write_training_archive(tree / 'train', raw / TRAIN)
    shutil.rmtree(tmp_path / 'expected')
    prepare(raw, tmp_path / 'again')
    assert_like_the_tree(tmp_path / 'again', tree)
    assert long.read_bytes() in [image for _, image in read_records(tmp_path / 'again', 'train')]


def test_missing_archives(raw, tmp_path):
    out = tmp_path / 'out'
    for name, *expected in (
        (VAL, f'contains {TRAIN}, but not {VAL}; add it, or use --val-fraction'),
        (TRAIN, f'contains {VAL}, but not {TRAIN}; add it'),
        (f'{DEVKIT}.tar.gz', VAL, f'download {DEVKIT}.tar.gz, which has their classes, into {raw}'),
    ):
        (raw / name).rename(tmp_path / name)
        assert_user_error(try_to_prepare(raw, out), *expected)
        (tmp_path / name).rename(raw / name)
    result = try_to_prepare(raw, out, '--val-fraction', '0.1')
    assert_user_error(result, '--val-fraction 0.1', f'already split, into {TRAIN} and {VAL}; omit the option')
    assert not out.exists()


@pytest.mark.parametrize('name', [TRAIN, VAL, f'{DEVKIT}.tar.gz'])
@pytest.mark.parametrize('kept', [0, 0.3, 0.6, 0.999])
def test_archives_that_are_cut_short(raw, tmp_path, name, kept):
    """Wherever it is cut. An archive ends with at least 1024 bytes of zeros, of which the first 512 are needed."""
    content = (raw / name).read_bytes().rstrip(b'\0') if name in (TRAIN, VAL) else (raw / name).read_bytes()
    (raw / name).write_bytes(content[: int(len(content) * kept)])
    assert_user_error(try_to_prepare(raw, tmp_path / 'out'), raw / name, 'again')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['raw', 'tree']


def test_archives_that_end_between_members(tree, raw, tmp_path):
    """tarfile takes this for the end of the archive."""
    for name in (TRAIN, VAL):
        content = (raw / name).read_bytes()
        with tarfile.open(raw / name) as archive:
            second = archive.getmembers()[1]
        (raw / name).write_bytes(content[: second.offset])
        assert_user_error(
            try_to_prepare(raw, tmp_path / 'out'), raw / name, f'cut short or damaged at byte {second.offset}'
        )
        (raw / name).write_bytes(content[: second.offset] + b'?' * 512 + content[second.offset + 512 :])
        assert_user_error(try_to_prepare(raw, tmp_path / 'out'), raw / name, f'damaged at byte {second.offset}')
        (raw / name).write_bytes(content)


def special(name, kind, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, '/etc/passwd', size
    return info


def test_unexpected_members(raw, tmp_path):
    jpeg = write_image(tmp_path / 'a.jpg').read_bytes()
    for outer, inner, *expected in (
        ({'readme.txt': b'text'}, {}, f'{TRAIN}: contains readme.txt, which is not the archive of a class'),
        ({'../../n01440764.tar': b''}, {}, f'{TRAIN}: contains ../../n01440764.tar, but must contain no folders'),
        ({'n01440764.tar': special('n01440764.tar', tarfile.SYMTYPE)}, {}, 'n01440764.tar, which is neither a file'),
        ({'n01440764.tar': b'<html>404</html>'}, {}, f'{TRAIN}/n01440764.tar: not a tar archive'),
        ({'n01440764.tar': b''}, {}, f'{TRAIN}/n01440764.tar: not a tar archive'),
        ({}, {}, f'{TRAIN}: contains no classes'),
        (None, {}, f'{TRAIN}/n01440764.tar: a class without images'),
        (None, {'notes.txt': b'text'}, f'{TRAIN}/n01440764.tar: a class without images'),
        (None, {'/etc/passwd': jpeg}, 'contains /etc/passwd, but must contain no folders'),
        (None, {'../a.jpg': jpeg}, 'contains ../a.jpg, but must contain no folders'),
        (None, {'a.jpg': special('a.jpg', tarfile.SYMTYPE)}, 'contains a.jpg, which is neither a file nor a folder'),
        (None, {'a.jpg': special('a.jpg', tarfile.LNKTYPE)}, 'contains a.jpg, which is neither a file nor a folder'),
        (None, {'a.jpg': special('a.jpg', tarfile.FIFOTYPE)}, 'contains a.jpg, which is neither a file nor a folder'),
        (None, {'./a.jpg': jpeg, 'a.jpg': jpeg}, 'contains a.jpg more than once'),
    ):
        archives = {'n01440764.tar': tar_of(inner)} if outer is None else outer
        write_tar(raw / TRAIN, archives)
        assert_user_error(try_to_prepare(raw, tmp_path / 'out'), *expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.jpg', 'raw', 'tree']


def with_size(header, size):
    """Return a member's header with a size, in the form of large files, and the right checksum."""
    header = bytearray(header)
    header[124:136] = (
        b'\x80' + size.to_bytes(11, 'big') if size >= 0 else b'\xff' + size.to_bytes(11, 'big', signed=True)
    )
    header[148:156] = b' ' * 8
    header[148:156] = b'%06o\0 ' % sum(header)
    return bytes(header)


@pytest.mark.parametrize('kind', [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize('size', [-512, -1024, 1 << 40, 1 << 80])
def test_sizes_that_no_archive_has(raw, tmp_path, kind, size):
    """They neither fill the memory nor lead in circles."""
    content = (raw / VAL).read_bytes()
    second = tarfile.open(raw / VAL).getmembers()[1].offset
    header = with_size(special('a.jpg', kind).tobuf(tarfile.GNU_FORMAT), size)
    (raw / VAL).write_bytes(content[:second] + header + content[second:])
    assert_user_error(try_to_prepare(raw, tmp_path / 'out'), raw / VAL)


def test_header_too_large_for_memory(raw, tmp_path):
    """A name of 4 GB; the file is sparse."""
    header = with_size(special('a.jpg', tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT), 1 << 32)
    (raw / VAL).write_bytes(header)
    os.truncate(raw / VAL, 1 << 33)
    assert_user_error(try_to_prepare(raw, tmp_path / 'out'), raw / VAL, 'not a tar archive')


def test_damaged_class_archive(raw, tmp_path):
    """The outer archive is fine."""
    with tarfile.open(raw / TRAIN) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    files['n01440764.tar'] = files['n01440764.tar'][:2000]
    write_tar(raw / TRAIN, files)
    assert_user_error(try_to_prepare(raw, tmp_path / 'out'), raw / TRAIN / 'n01440764.tar', 'cut short')


def test_different_classes(tree, raw, tmp_path):
    shutil.rmtree(tree / 'train' / 'n99000001')
    write_training_archive(tree / 'train', raw / TRAIN)
    result = try_to_prepare(raw, tmp_path / 'out')
    assert_user_error(result, 'different classes', 'only in val: n99000001')


def test_wrong_development_kit(raw, tmp_path):
    out, path = tmp_path / 'out', raw / f'{DEVKIT}.tar.gz'
    truth, data = f'{path}/data/ILSVRC2012_validation_ground_truth.txt', f'{DEVKIT}/data'
    right = '3\n1\n2\n2\n3\n1\n1\n'

    def assert_refused(*expected):
        assert_user_error(try_to_prepare(raw, out), *expected)

    for lines, *expected in (
        (right[:-2], 'has 6 lines, but there are 7 validation images'),
        (right + '1\n', 'has 8 lines, but there are 7 validation images'),
        # Synset 4 is above the others.
        (right.replace('2', '4'), 'line 3 is 4, which is not the number of a class in data/meta.mat'),
        (right.replace('2', '-1'), 'line 3 is -1'),
        (right.replace('2', 'cat'), 'line 3 is cat'),
        (right.replace('2', '\x1b[31m'), 'line 3 is \\x1b[31m'),
    ):
        write_devkit(path, WORDS, lines)
        assert_refused(truth, *expected)
    name = 'ILSVRC2012_validation_ground_truth.txt'
    for files, *expected in (
        ({}, f'does not contain {data}/meta.mat'),
        ({f'{data}/meta.mat': meta(WORDS)}, f'does not contain {data}/{name}'),
        ({f'{data}/meta.mat': b'<html>404</html>'}, 'data/meta.mat: cannot be read'),
        ({f'{data}/meta.mat': b''}, 'data/meta.mat: cannot be read'),
        ({f'{data}/meta.mat': meta(WORDS)[:300]}, 'data/meta.mat: cannot be read'),
        ({f'{data}/meta.mat': meta({})[:150] + meta(WORDS)[150:]}, 'data/meta.mat: cannot be read'),
    ):
        write_tar(path, files, 'w:gz')
        assert_refused(path, *expected)
    path.write_bytes(b'<html>404</html>')
    assert_refused(path, 'cannot be read')
    with gzip.open(path, 'wb') as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert_refused(path, 'more than the development kit')
    path.unlink()
    (raw / DEVKIT).mkdir()
    assert_refused(raw / DEVKIT, 'data/meta.mat: cannot be read (No such file or directory)')
