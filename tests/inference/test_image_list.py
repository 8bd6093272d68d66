"""image_list.py: the images of a folder or a list, in the order of their paths."""

import os
import tempfile
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from imagenet.common.errors import UserError
from imagenet.inference.image_list import IMAGE_SUFFIXES, ImageList, find_images, images_below


def found(path):
    with closing(find_images(path)) as images:
        return list(images.starting_at(0))


def test_folder_is_sorted_by_the_parts_of_paths(tmp_path, monkeypatch):
    names = ('b.jpg', 'a/z.PNG', 'a/b/c.jpeg', 'a-b/c.bmp', 'a.jpg', 'a.jpg.d/e.webp', 'ab', 'x.jpg/y.tif', '.h/i.jpg')
    for name in (*names, 'line\nfeed.jpg', os.fsdecode(b'caf\xe9.jpg')):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'link').symlink_to(tmp_path / 'a')
    (tmp_path / 'link.jpg').symlink_to(tmp_path / 'b.jpg')
    paths = (path for path in tmp_path.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    expected = [str(path) for path in sorted(paths)]
    assert found(tmp_path) == expected
    monkeypatch.chdir(tmp_path)
    assert list(images_below(Path())) == [os.path.relpath(path) for path in expected]


def test_list(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes('a.jpg\r\n\n  b c.jpg \n/d//e.jpg\u2028./f/../g.jpg\rlast.jpg'.encode())
    names = ['a.jpg', 'b c.jpg', '/d/e.jpg', 'f/../g.jpg', 'last.jpg']
    assert found(path) == [str(tmp_path / name) for name in names]
    path.write_bytes(b'a.jpg\n' * 100_000 + b'caf\xe9.jpg\n')
    with pytest.raises(UserError, match='cannot read this list'):
        find_images(path)


def test_any_part_of_a_long_list():
    paths = [f'/folder/{number}.jpg' for number in range(100_000)]
    with closing(ImageList(paths)) as images, closing(ImageList(paths[:-1])) as others:
        assert len(images) == 100_000
        for number in (0, 12_345, 99_999, 100_000):
            assert list(images.starting_at(number)) == paths[number:]
        assert images.checksum != others.checksum


def test_many_paths_are_not_in_memory(tmp_path):
    (tmp_path / 'list.txt').write_text(''.join(f'{"folder" * 80}/{number}.jpg\n' for number in range(200_000)))
    tracemalloc.start()
    with closing(find_images(tmp_path / 'list.txt')) as images:
        assert sum(1 for _ in images.starting_at(0)) == 200_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # In a list, they would take 110 MB. Python's table of interned strings takes 10, as `pathlib` interns names.
    assert peak < 30_000_000


def test_no_space_for_the_list(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'missing'))
    with pytest.raises(UserError, match='missing: cannot write a list there .* TMPDIR sets another folder'):
        ImageList('0123456789' * 100_000)
