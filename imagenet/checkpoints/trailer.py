"""The trailer of a parameter file: JSON after the end of MXNet's data.

Readers that do not know it, such as MXNet itself, never read that far. A second file would be lost when the first one
is copied, and an additional array would make strict readers refuse the file.
"""

import json
import os
import struct
from pathlib import Path

from imagenet.common.errors import UserError

# The length of the JSON and a magic number, at the end of the file.
ENDING = struct.Struct('<Q8s')
MAGIC = b'NETWORK\n'
MOST_BYTES = 1 << 24


def append_trailer(path, content):
    """Append content for JSON to a complete parameter file."""
    text = json.dumps(content).encode()
    with Path(path).open('ab') as file:
        file.write(text + ENDING.pack(len(text), MAGIC))


def read_trailer(path):
    """Return the content of a file's trailer, a dict; None if the file has none.

    Raises:
        UserError: the file cannot be read, or its trailer is damaged.
    """
    try:
        with Path(path).open('rb') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - ENDING.size))
            ending = file.read()
            if ending[-len(MAGIC) :] != MAGIC:
                return None
            length, _ = ENDING.unpack(ending)
            if length > min(MOST_BYTES, size - ENDING.size):
                raise ValueError
            file.seek(size - ENDING.size - length)
            return dict(json.loads(file.read(length)).items())
    except OSError as error:
        raise UserError(f'--load {path}: cannot read this file ({error.strerror})') from None
    except (ValueError, AttributeError, struct.error):
        raise UserError(f'--load {path}: its description of the network is damaged; use another checkpoint') from None
