"""Files that are there whole or not at all."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from imagenet.common.errors import UserError


def write_atomically(path, write):
    """Writes a file under a temporary name, flushes it to the disk, then renames it.

    A reader, or a process that comes after a crash, finds the old file or the new one, never a part of one.

    Args:
        path: where the file shall be.
        write: a function that is given the temporary path and writes the file there.

    Raises:
        UserError: it cannot be written; the old file is still there.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        temporary = Path(name)
        try:
            write(temporary)
            os.fsync(handle)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            # Ctrl-C may come right after the file has its name.
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(f'{path}: cannot write this file ({error.strerror})') from None


def write_json(path, content):
    """Writes JSON for people to read, too; as `write_atomically`."""
    text = json.dumps(content, indent=2) + '\n'
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))


def check_new(paths):
    """Raises `UserError` if one of these files exists, or could not be written."""
    for path in map(Path, paths):
        if path.exists():
            raise UserError(f'{path}: this file exists; choose other names with -o, or remove it')
        if not (path.absolute().parent.is_dir() and os.access(path.absolute().parent, os.W_OK)):
            raise UserError(f'{path}: there is no such folder, or it cannot be written')


def _umask():
    """mkstemp makes files that only their owner can read; ours are as readable as any other file of the user's."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def file_sha256(path):
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


class BackgroundWriter:
    """Writes files while the program goes on; one job at a time, in order."""

    def __init__(self):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='writer')
        self._job = None

    def submit(self, job):
        """Starts a job, a function without arguments, once the one before it is done; raises that one's error."""
        self.wait()
        self._job = self._pool.submit(job)

    def wait(self):
        """Returns when all is written; raises the error of a job that failed."""
        if self._job is not None:
            job, self._job = self._job, None
            job.result()


@contextmanager
def sole_use_of(path):
    """Holds a lock on a file in the block, or until the process ends.

    Raises:
        UserError: another process holds it.
    """
    with Path(path).open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'{Path(path).parent}: another run is at work there; wait for its end, or name another folder'
            ) from None
        except OSError:
            # Some network file systems know no locks.
            pass
        yield


@contextmanager
def folder_when_whole(folder):
    """A folder to write into, which gets its name when the block is through.

    Raises:
        UserError: something in it cannot be read or written.
    """
    folder = folder.resolve()
    partial = folder.parent / f'.{folder.name}.partial'
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in partial.iterdir():
            with path.open('rb') as file:
                os.fsync(file.fileno())
        partial.rename(folder)
    except OSError as error:
        raise UserError(f'{folder}: cannot make this copy ({error.strerror})') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def flush_to_disk(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
