"""Atomic files and folders, file locks, checksums, and writing in the background."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from imagenet.common.errors import UserError

# The ending of temporary names: `.report.json.k3ab_9x1.partial`.
PARTIAL_SUFFIX = '.partial'


def write_atomically(path, write):
    """Write a file under a temporary name, flush it to disk, then rename it.

    A reader finds the old file or the new one, never a part of one, even after a crash. What killed programs left of
    the same file is removed.

    Args:
        path: the final path.
        write: a function that receives the temporary path and writes the file there.

    Raises:
        UserError: the file cannot be written; the old one is intact.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            # Renaming would replace a device, such as /dev/null.
            raise UserError(f'{path}: cannot write this file (it is a folder or a device)')
        remove_leftovers(path.parent, glob.escape(path.name))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix=PARTIAL_SUFFIX)
        temporary = Path(name)
        try:
            # Some network file systems do not support locks.
            with suppress(OSError):
                _lock(handle)
            write(temporary)
            os.fsync(handle)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            # Ctrl-C may arrive right after the rename; then there is no temporary file.
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(f'{path}: cannot write this file ({error.strerror})') from None


def remove_leftovers(folder, pattern):
    """Remove the temporary files and folders that killed programs left in a folder.

    Those that a program is writing are locked, and stay.

    Args:
        pattern: matches the names of the files that were being written.
    """
    for path in Path(folder).glob(f'.{pattern}.{"[a-z0-9_]" * 8}{PARTIAL_SUFFIX}'):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                _lock(handle)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


@contextmanager
def temporary_folder(path):
    """Provide a new folder next to a file that is going to be written there, and remove it at the end of the block."""
    remove_leftovers(path.parent, glob.escape(path.name))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.', suffix=PARTIAL_SUFFIX) as folder:
        handle = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):
                _lock(handle)
            yield Path(folder)
        finally:
            os.close(handle)


def _lock(handle):
    """Lock an open file or folder until it is closed or the process ends; raise `OSError` if another process has."""
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_json(path, content):
    """Write indented JSON atomically; see `write_atomically`."""
    text = json.dumps(content, indent=2) + '\n'
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))


def check_new(paths):
    """Raise `UserError` if one of these files exists, or if its folder is missing or not writable."""
    for path in map(Path, paths):
        if path.exists():
            raise UserError(f'{path}: this file exists; choose other names with -o, or remove it')
        if not has_writable_folder(path):
            raise UserError(f'{path}: no such folder, or it is not writable; choose another one with -o')


def has_writable_folder(path):
    """Return whether the folder of a file exists and is writable."""
    folder = Path(path).absolute().parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _umask():
    """Return the umask. `mkstemp` creates files that only their owner can read; ours get the usual permissions."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def file_sha256(path):
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def read_regular_file(path):
    """Return a file's bytes.

    Raises:
        OSError: it cannot be read, or is no regular file. (Reading a named pipe could take forever.)
    """
    if '\0' in str(path):
        raise OSError(errno.EINVAL, 'no file has such a name')
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, 'not a regular file')
    return Path(path).read_bytes()


class BackgroundWriter:
    """Writes files in a background thread: one job at a time, in order. A `with` block ends after the last one."""

    def __init__(self):
        self._thread = None
        self._error = None

    def submit(self, job):
        """Wait for the previous job and raise its error, then start a job, which is a function without arguments."""
        self.wait()
        # Not a daemon thread: a file is complete even if Ctrl-C comes while the block waits for it.
        self._thread = threading.Thread(target=self._run, args=(job,), name='writer')
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, error_type, *_):
        # The error of the block is the cause, and the one to report.
        with suppress(Exception) if error_type is not None else nullcontext():
            self.wait()

    def _run(self, job):
        try:
            job()
        except Exception as error:  # whatever it is, `wait` raises it
            self._error = error

    def wait(self):
        """Wait until everything is written, and raise the error of a job that failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


@contextmanager
def sole_use_of(path):
    """Hold a lock on a file for the duration of the block, or until the process ends.

    Raises:
        UserError: another process holds the lock.
    """
    with Path(path).open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'{Path(path).parent}: in use by another run; wait until it ends, or choose another folder'
            ) from None
        except OSError:
            # Some network file systems do not support locks.
            pass
        yield


@contextmanager
def keep_work_on_error(work):
    """Add to the message of any error in the block that the work so far is kept in a folder.

    Raises:
        UserError: of the same class as the one in the block; or a file cannot be written.
    """
    comfort = f'the work so far is kept in {work}, and the same command resumes from there'
    try:
        yield
    except OSError as error:
        raise UserError(f'{error.filename or work}: cannot write there ({error.strerror}); {comfort}') from None
    except UserError as error:
        raise type(error)(f'{error}; {comfort}') from None
    except KeyboardInterrupt:
        print(f'interrupted: {comfort}', file=sys.stderr, flush=True)
        raise


def open_at(path, size, work):
    """Open a file for appending, truncated to the size up to which it is known to be intact.

    Args:
        work: the folder to remove if the file is shorter, for the message.
    """
    file = path.open('ab')
    if file.seek(0, os.SEEK_END) < size:
        file.close()
        raise UserError(f'{path}: shorter than recorded in state.json; remove {work} to start over')
    file.truncate(size)
    file.seek(size)
    return file


@contextmanager
def folder_when_whole(folder):
    """Yield a temporary folder to write into, and rename it to `folder` once the block has succeeded.

    Raises:
        UserError: something in the folder cannot be read or written.
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
