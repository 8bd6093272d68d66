"""Finds the files in a tar archive, which may be inside of another one, without unpacking anything."""

import tarfile
from collections import namedtuple

from imagenet.common.errors import UserError
from imagenet.datasets.image_files import reading

# A file in an archive: its path there, and its first byte and size in the file that holds the archive.
Member = namedtuple('Member', 'name offset size')
# Only headers are read. They are longest if they hold a name, which needs no more than this.
MAX_HEADER_BYTES = 1 << 20
# What tarfile raises if an archive is damaged, depending on Python's version.
TAR_ERRORS = (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError)


def find_members(title, file, offset, size):
    """Yield the `Member`s of an archive in their order. Folders are left out.

    Args:
        title: the name of the archive, for messages.
        file: a file, open for reading.
        offset, size: where in the file the archive is.

    Raises:
        UserError: it is not a complete archive, or contains a link or another special file.
    """
    section, end = Section(file, offset, size), 0
    with reading(title), open_archive(title, section) as archive:
        for member in iter(lambda: next_member(title, archive), None):
            begin, end_before, end = member.offset_data, end, member.offset_data + member.size
            if begin < end_before or member.size < 0:
                raise UserError(f'{title}: damaged at byte {member.offset}; copy or download it again')
            if end > size:
                raise UserError(f'{title}: cut short in {member.name}; copy or download it again')
            if member.isreg() and not member.issparse():
                name = member.name[2:] if member.name.startswith('./') else member.name
                yield Member(name, offset + begin, member.size)
            elif not member.isdir():
                raise UserError(f'{title}: contains {member.name}, which is neither a file nor a folder')
        section.seek(archive.offset)
        # An archive ends with blocks of zeros. Without, tarfile would take any damage for the end.
        if section.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise UserError(f'{title}: cut short or damaged at byte {archive.offset}; copy or download it again')


def open_archive(title, section):
    try:
        return tarfile.open(fileobj=section, mode='r:', encoding='utf-8')
    except TAR_ERRORS as error:
        raise UserError(f'{title}: not a tar archive ({error}); copy or download it again') from None


def next_member(title, archive):
    try:
        member = archive.next()
    except TAR_ERRORS as error:
        raise UserError(f'{title}: damaged ({error}); copy or download it again') from None
    # The archive would keep them all.
    archive.members.clear()
    return member


class Section:
    """Some bytes of a file, as the file that tarfile reads."""

    def __init__(self, file, offset, size):
        self._file, self._offset, self._size = file, offset, size
        self._position = 0

    def tell(self):
        return self._position

    def seek(self, position):
        self._position = position

    def read(self, size):
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f'a header of {size} bytes')
        size = max(0, min(size, self._size - self._position))
        self._file.seek(self._offset + self._position)
        content = self._file.read(size)
        self._position += len(content)
        return content
