"""files.py: what a killed program leaves is removed, and nothing else."""

import os

import pytest

from imagenet.common.files import remove_leftovers, temporary_folder, write_atomically

USERS_FILES = ('.report.json.original', '.report.json.backup12.partial~', '.report.json.partial', 'report.json.partial')


def fork_and_die(work):
    """Do work in a child process that is killed at its end, as if by the system."""
    child = os.fork()
    if child == 0:
        try:
            work(lambda *_: os.kill(os.getpid(), 9))
        finally:
            os._exit(1)
    os.waitpid(child, 0)


def leave_a_file(path):
    fork_and_die(lambda die: write_atomically(path, lambda temporary: (temporary.write_text('half'), die())))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / 'report.json'
    for name in USERS_FILES:
        (tmp_path / name).touch()
    leave_a_file(path)
    leave_a_file(tmp_path / 'val_report.json')
    assert len(names(tmp_path)) == len(USERS_FILES) + 2
    write_atomically(path, lambda temporary: temporary.write_text('whole'))
    (left,) = set(names(tmp_path)) - {*USERS_FILES, 'report.json'}
    assert left.startswith('.val_report.json.')


def test_work_in_progress_stays(tmp_path):
    path = tmp_path / 'report.json'

    def write(temporary):
        temporary.write_text('the first')
        write_atomically(path, lambda other: other.write_text('the second'))
        assert temporary.exists()

    write_atomically(path, write)
    assert path.read_text() == 'the first'
    assert names(tmp_path) == ['report.json']


def test_folders(tmp_path):
    path = tmp_path / 'net[1]'

    def work(die):
        with temporary_folder(path) as folder:
            (folder / 'part').touch()
            die()

    fork_and_die(work)
    assert len(names(tmp_path)) == 1
    with temporary_folder(path) as folder:
        assert names(tmp_path) == [folder.name]
        remove_leftovers(tmp_path, '*')
        assert folder.exists()
    assert names(tmp_path) == []


def test_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / 'report.json', lambda temporary: 1 / 0)
    assert names(tmp_path) == []
