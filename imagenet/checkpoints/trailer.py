"""The trailer of a parameter file: JSON after the end of MXNet's data.

Readers that do not know it, such as MXNet itself, never read that far. A second file would be lost when the first one
is copied, and an additional array would make strict readers refuse the file.
"""

import json
import os
import struct
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.reporting.json_files import MOST_BYTES, check_json

SCHEMA = Path(__file__).resolve().with_name('network_schema.json')
# The length of the JSON and a magic number, at the end of the file.
ENDING = struct.Struct('<Q8s')
MAGIC = b'NETWORK\n'


def append_trailer(path, content):
    """Append content for JSON to a complete parameter file."""
    text = json.dumps(content).encode()
    with Path(path).open('ab') as file:
        file.write(text + ENDING.pack(len(text), MAGIC))


def read_trailer(path, subject=None):
    """Return the content of a file's trailer, a dict; None if the file has none.

    Args:
        subject: the start of messages; by default, the option --load.

    Raises:
        UserError: the file cannot be read, or its trailer is damaged.
    """
    subject = subject or f'--load {path}'
    try:
        encoded = _read(path)
    except OSError as error:
        raise UserError(f'{subject}: cannot read this file ({error.strerror})') from None
    return None if encoded is None else check_description(encoded, subject)


def check_description(encoded, subject):
    """Return the content of a description, given as bytes.

    Args:
        subject: the start of messages.

    Raises:
        UserError: it is damaged.
    """
    return check_json(encoded, SCHEMA, 'a description of a network', subject, 'use another checkpoint')


def _read(path):
    """Return the JSON in a file's trailer, or None if there is none. A wrong length gives bytes that are no JSON."""
    # A pipe is not waited for: it is no parameter file.
    with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        size = os.fstat(file.fileno()).st_size
        if size < ENDING.size:
            return None
        file.seek(size - ENDING.size)
        length, magic = ENDING.unpack(file.read(ENDING.size))
        if magic != MAGIC:
            return None
        length = min(length, size - ENDING.size, MOST_BYTES + 1)
        file.seek(size - ENDING.size - length)
        return file.read(length)
