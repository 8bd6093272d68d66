"""Reads numbers and bytes of a binary file that may be damaged."""

import os
import struct


class BoundedReader:
    """Reads from a seekable file, and never more than it has."""

    def __init__(self, file):
        self._file = file
        position = file.tell()
        self._size = file.seek(0, os.SEEK_END)
        file.seek(position)

    def bytes(self, count):
        position = self._file.tell()
        if count > self._size - position:
            raise ValueError(f'{count} bytes at byte {position}, but the file has {self._size}')
        return self._file.read(count)

    def numbers(self, kind, count):
        return struct.unpack(f'<{count}{kind}', self.bytes(count * struct.calcsize(f'<{kind}')))

    def number(self, kind):
        return self.numbers(kind, 1)[0]
