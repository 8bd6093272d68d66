"""Exported networks that are kept between runs, because exporting takes longer than loading.

A file is named by the SHA-256 of everything that determines its content, and begins with the SHA-256 of the rest, so
that a file that was changed or damaged is never run. Files are written atomically and by one process at a time, so any
number of processes can use the cache. What was not used for longest is removed if the folder gets too large.
"""

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import write_atomically

SUFFIX = '.onnx.cached'
DIGITS = hashlib.sha256().digest_size * 2
# Fifty networks of the size of ResNet-50.
MOST_BYTES = 5_000_000_000


def cache_folder():
    """Return the folder of the cache; XDG_CACHE_HOME sets where caches are."""
    caches = Path(os.environ.get('XDG_CACHE_HOME') or Path('~/.cache').expanduser())
    return caches / 'imagenet-mxnet' / 'engines'


def cached(key, make):
    """Return the content of a key from the cache, or make it and keep it there.

    Args:
        key: everything that determines the content, as a dict for JSON; None if it is not to be kept.
        make: a function that returns the content, as bytes.

    Returns:
        The content, and a line for the log if it could not be kept, else None.

    Raises:
        UserError: the file in the cache was changed or damaged.
    """
    if key is None:
        return make(), None
    path = cache_folder() / f'{_sha256(json.dumps(key, sort_keys=True).encode())}{SUFFIX}'
    try:
        stored = path.read_bytes()
    except OSError:
        content = make()
        return content, _keep(content, path)
    _mark_as_used(path)
    return _checked(stored, path), None


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _checked(stored, path):
    checksum, content = stored[:DIGITS], stored[DIGITS:]
    if checksum != _sha256(content).encode():
        raise UserError(f'{path}: this cached network was changed or damaged; remove the file, and it is made again')
    return content


def _keep(content, path):
    """Write a file of the cache; if that fails, return a line for the log."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path.parent):
            write_atomically(path, lambda temporary: temporary.write_bytes(_sha256(content).encode() + content))
            _remove_least_recently_used(path)
    except (OSError, UserError) as error:
        reason = str(error) if isinstance(error, UserError) else f'{path.parent}: {error.strerror}'
        return f'the exported network is not kept for the next run: {reason}'
    return None


def _mark_as_used(path):
    """Set the time of the file to now; the time of the last access is not kept on every file system."""
    # A cache that may only be read is never trimmed either.
    with suppress(OSError):
        os.utime(path)


def _remove_least_recently_used(kept):
    """Remove other files until the folder of this one has at most `MOST_BYTES`."""
    others = [path for path in kept.parent.iterdir() if path != kept]
    total = kept.stat().st_size
    for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        total += path.stat().st_size
        if total > MOST_BYTES:
            path.unlink()


@contextmanager
def _one_at_a_time(folder):
    """Wait until no other process is in such a block for the folder.

    Otherwise one process could remove what another one has just begun to write, as the leftover of a killed program.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems do not support locks.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
