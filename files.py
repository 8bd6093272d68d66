"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

from errors import UserError


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
            temporary.unlink()
            raise
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(f'{path}: cannot write this file ({error.strerror})') from None


def _umask():
    """mkstemp makes files that only their owner can read; ours are as readable as any other file of the user's."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
