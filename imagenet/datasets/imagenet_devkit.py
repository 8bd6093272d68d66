"""The development kit of ImageNet 2012, which has the classes of the validation images.

Its file of the ground truth has a line per validation image, in the order of their names: the number of its class. Its
`meta.mat` has the classes, called synsets: their numbers, WordNet IDs and words. Synsets with children are not classes.
The numbers are not those of the sorted IDs.
"""

import gzip
import io
import zlib

from imagenet.common.errors import UserError
from imagenet.common.files import read_regular_file
from imagenet.datasets.image_files import reading
from imagenet.datasets.meta_mat import parse_synsets
from imagenet.datasets.tar_members import find_members

FOLDER = 'ILSVRC2012_devkit_t12'
ARCHIVE = f'{FOLDER}.tar.gz'
GROUND_TRUTH, META = 'data/ILSVRC2012_validation_ground_truth.txt', 'data/meta.mat'
# Many times what it has.
MAX_BYTES = 1 << 28


def find_devkit(raw, images):
    """Return the `Devkit` in a folder.

    Args:
        images: the validation images that need it, for the message.

    Raises:
        UserError: there is none.
    """
    if (raw / FOLDER).is_dir():
        return Devkit(raw / FOLDER, read_from_folder)
    if (raw / ARCHIVE).is_file():
        return Devkit(raw / ARCHIVE, read_from_archive)
    raise UserError(
        f'{images}: these images are in no class folders; download {ARCHIVE}, which has their classes, into {raw}'
    )


class Devkit:
    """The development kit in a folder or an archive.

    Args:
        path: of the folder or the archive.
        read: a function of the path and the name of a file in it; it returns the file's bytes.
    """

    def __init__(self, path, read):
        self._path, self._read = path, read

    def read_validation(self, num_images):
        """Return the `Synset`s of the validation images, in the order of their names.

        Raises:
            UserError: a file is missing or damaged, or has the classes of another number of images.
        """
        title, synsets = f'{self._path}/{GROUND_TRUTH}', self._read_synsets()
        lines = self._read(self._path, GROUND_TRUTH).decode(errors='replace').split()
        if len(lines) != num_images:
            raise UserError(f'{title}: has {len(lines)} lines, but there are {num_images} validation images')
        for number, line in enumerate(lines, 1):
            if line not in synsets:
                raise UserError(f'{title}: line {number} is {line}, which is not the number of a class in {META}')
        return [synsets[line] for line in lines]

    def _read_synsets(self):
        """Return the classes' `Synset`s by their numbers, which are text as in the ground truth."""
        content = self._read(self._path, META)
        try:
            return {str(number): synset for number, synset in parse_synsets(content).items()}
        except ValueError as error:
            raise UserError(f'{self._path}/{META}: cannot be read ({error}); download {ARCHIVE} again') from None


def read_from_folder(path, name):
    with reading(path / name):
        return read_regular_file(path / name)


def read_from_archive(path, name):
    """Return the content of a file in the compressed archive.

    Raises:
        UserError: the archive is damaged, or the file is missing.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'{path}: cannot be read ({error}); download it again') from None
    if len(content) > MAX_BYTES:
        raise UserError(f'{path}: has over {MAX_BYTES} bytes, more than the development kit')
    for member in find_members(path, io.BytesIO(content), 0, len(content)):
        if member.name == f'{FOLDER}/{name}':
            return content[member.offset : member.offset + member.size]
    raise UserError(f'{path}: does not contain {FOLDER}/{name}; download it again')
