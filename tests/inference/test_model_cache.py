"""model_cache.py: exported networks that are kept between runs."""

import multiprocessing
import os
import resource

import pytest

from imagenet.common.errors import UserError
from imagenet.inference import model_cache
from imagenet.inference.model_cache import cache_folder, cached

CONTENT = bytes(range(256)) * 1000
KEY = {'checkpoint': '00ff', 'network': {'arch': 'resnetv15'}}
PROCESSES = 8


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
    return cache_folder()


def make():
    return CONTENT


def make_nothing():
    raise AssertionError('it is in the cache')


def test_second_run_makes_nothing(folder):
    assert cached(KEY, make) == (CONTENT, None)
    assert cached(KEY, make_nothing) == (CONTENT, None)
    assert len(list(folder.iterdir())) == 1


def test_another_key_is_another_file(folder):
    cached(KEY, make)
    assert cached({**KEY, 'checkpoint': '00fe'}, lambda: b'other') == (b'other', None)
    assert cached(KEY, make_nothing) == (CONTENT, None)


def test_nothing_is_kept_without_a_key(folder):
    assert cached(None, make) == (CONTENT, None)
    assert not folder.exists()


@pytest.mark.parametrize('position', [0, 64, -1])
def test_changed_file(folder, position):
    """In its checksum, at the start and at the end of its content."""
    cached(KEY, make)
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'{path}: this cached network was changed or damaged; remove the file'):
        cached(KEY, make)


def test_shortened_file(folder):
    cached(KEY, make)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(UserError, match='changed or damaged'):
        cached(KEY, make)


def test_what_was_not_used_for_longest_is_removed(folder, monkeypatch):
    monkeypatch.setattr(model_cache, 'MOST_BYTES', 3 * len(CONTENT))
    keys = [{'checkpoint': number} for number in range(3)]
    cached(keys[0], make)
    (first,) = folder.iterdir()
    cached(keys[1], make)
    # The first one was used first, then the second one, then the first one again.
    for path in folder.iterdir():
        os.utime(path, (0, path != first))
    cached(keys[0], make_nothing)
    cached(keys[2], make)
    assert len(list(folder.iterdir())) == 2
    cached(keys[0], make_nothing)
    cached(keys[2], make_nothing)


def test_network_larger_than_the_cache(folder, monkeypatch):
    monkeypatch.setattr(model_cache, 'MOST_BYTES', len(CONTENT) // 2)
    cached({'checkpoint': 1}, make)
    cached(KEY, make)
    assert cached(KEY, make_nothing) == (CONTENT, None)
    assert len(list(folder.iterdir())) == 1


def test_cache_that_cannot_be_made(tmp_path):
    (tmp_path / 'caches').write_text('a file')
    content, note = cached(KEY, make)
    assert content == CONTENT
    assert 'not kept for the next run' in note


def test_full_disk(folder):
    """A limit of the size of files has the same effect: writing fails in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, before[1]))
    try:
        content, note = cached(KEY, make)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert content == CONTENT
    assert 'not kept for the next run' in note
    assert not list(folder.iterdir())


def make_at_the_same_time(barrier, results):
    def make_when_all_do():
        barrier.wait()
        return CONTENT

    results.put(cached(KEY, make_when_all_do) == (CONTENT, None))


def test_several_processes_at_once(folder):
    context = multiprocessing.get_context('fork')
    barrier, results = context.Barrier(PROCESSES), context.Queue()
    processes = [context.Process(target=make_at_the_same_time, args=(barrier, results)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    assert all(results.get() for _ in processes)
    for process in processes:
        process.join()
    assert len(list(folder.iterdir())) == 1
    assert cached(KEY, make_nothing) == (CONTENT, None)
