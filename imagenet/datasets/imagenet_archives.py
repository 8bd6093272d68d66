"""ImageNet 2012 as downloaded: its archives as sources of images (see sources.py).

The training images are a tar archive with an archive for each class. The validation images are in one archive or one
folder, and the development kit has their classes. An image's place in an archive is its offset and its size.
"""

from imagenet.common.errors import UserError
from imagenet.datasets.class_names import read_imagenet_words
from imagenet.datasets.image_files import Image, problem_of_name, read_image_at, read_image_file, reading
from imagenet.datasets.image_tree import check_class_name
from imagenet.datasets.imagenet_devkit import find_devkit
from imagenet.datasets.progress import progress
from imagenet.datasets.tar_members import find_members

TRAINING_ARCHIVE, VALIDATION_ARCHIVE = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
CLASS_SUFFIX = '.tar'


def find_archives(raw):
    """Return the archives in a folder as sources of images, by split, for the splits that have one.

    Raises:
        UserError: the development kit is missing.
    """
    found = {}
    if (raw / TRAINING_ARCHIVE).is_file():
        found['train'] = TrainingArchive(raw / TRAINING_ARCHIVE)
    if (raw / VALIDATION_ARCHIVE).is_file():
        found['val'] = ValidationImages(ArchivedImages(raw / VALIDATION_ARCHIVE), find_devkit(raw, VALIDATION_ARCHIVE))
    return found


class TrainingArchive:
    """The archive of the classes' archives."""

    words = {}

    def __init__(self, path):
        self._path = path
        self.indexed_files = [path]

    def __str__(self):
        return str(self._path)

    def classes(self, skip, _scratch):
        """Yield the classes, sorted by their names.

        Raises:
            UserError: an archive is damaged, contains something else, or has no images.
        """
        size = self._path.stat().st_size
        with reading(self._path), self._path.open('rb') as file, progress(size, unit='bytes') as advance:
            archives = {
                class_of_archive(self._path, member.name): member
                for member in sorted_files(self._path, find_members(self._path, file, 0, size))
            }
            if not archives:
                raise UserError(f'{self._path}: contains no classes')
            for name, archive in sorted(archives.items()):
                title = self._path / archive.name
                images = choose_images(list_archive(title, file, archive.offset, archive.size), self._path / name, skip)
                if not images:
                    raise UserError(f'{title}: a class without images')
                yield name, images
                advance(archive.size)

    def read(self, _name, place):
        return read_image_at(self._path, *map(int, place.split()))

    def path_of(self, name, _place):
        return self._path / name


class ValidationImages:
    """Images without class folders, with the classes of the development kit.

    Args:
        images: `ArchivedImages` or `FolderOfImages`.
    """

    def __init__(self, images, devkit):
        self._images, self._devkit = images, devkit
        self.indexed_files = images.indexed_files
        self.words = {}

    def __str__(self):
        return str(self._images)

    def classes(self, skip, _scratch):
        """Yield the classes, sorted by their WordNet IDs. From then on, `words` has those that ImageNet does not have.

        Raises:
            UserError: the archive or the development kit is damaged, or they do not belong together.
        """
        images = self._images.list(skip)
        synsets = self._devkit.read_validation(len(images))
        known = read_imagenet_words()
        self.words.update(synset for synset in synsets if synset.wordnet_id not in known)
        by_class = {}
        for image, synset in zip(images, synsets):
            by_class.setdefault(synset.wordnet_id, []).append(image)
        yield from sorted(by_class.items())

    def read(self, name, place):
        return self._images.read(file_of(name), place)

    def path_of(self, name, _place):
        return self._images.path_of(file_of(name))


def file_of(name):
    """Return FILE of CLASS/FILE."""
    return name.rpartition('/')[2]


class ArchivedImages:
    """An archive of images."""

    def __init__(self, path):
        self._path = path
        self.indexed_files = [path]

    def __str__(self):
        return str(self._path)

    def list(self, skip):
        """Return the `Image`s, sorted by name; call `skip` for other files."""
        size = self._path.stat().st_size
        with reading(self._path), self._path.open('rb') as file:
            return choose_images(list_archive(self._path, file, 0, size), self._path, skip)

    def read(self, _file, place):
        return read_image_at(self._path, *map(int, place.split()))

    def path_of(self, file):
        return self._path / file


class FolderOfImages:
    """A folder of images."""

    indexed_files = ()

    def __init__(self, path):
        self._path = path

    def __str__(self):
        return str(self._path)

    def list(self, skip):
        """Return the `Image`s, sorted by name; call `skip` for other files."""
        with reading(self._path):
            return choose_images([Image(path.name, '') for path in sorted(self._path.iterdir())], self._path, skip)

    def read(self, file, _place):
        return read_image_file(self._path / file)

    def path_of(self, file):
        return self._path / file


def class_of_archive(path, name):
    """Return the class of an archive inside of the archive `path`; raise `UserError` if it is none."""
    if not name.endswith(CLASS_SUFFIX) or name == CLASS_SUFFIX:
        raise UserError(f'{path}: contains {name}, which is not the archive of a class, such as n01440764.tar')
    check_class_name(name[: -len(CLASS_SUFFIX)], path / name)
    return name[: -len(CLASS_SUFFIX)]


def list_archive(title, file, offset, size):
    """Return the files of an archive as `Image`s, sorted by name; the arguments are those of `find_members`."""
    return [
        Image(member.name, f'{member.offset} {member.size}')
        for member in sorted_files(title, find_members(title, file, offset, size))
    ]


def sorted_files(title, members):
    """Return the members of an archive by name; raise `UserError` if one is in a folder, or is there twice."""
    members = sorted(members)
    for member, successor in zip(members, [*members[1:], None]):
        if '/' in member.name:
            raise UserError(f'{title}: contains {member.name}, but must contain no folders')
        if successor is not None and successor.name == member.name:
            raise UserError(f'{title}: contains {member.name} more than once')
    return members


def choose_images(images, folder, skip):
    """Return those that are images, judging by their names; call `skip` for the others, which are in a folder."""
    problems = [problem_of_name(image.file) for image in images]
    for image, problem in zip(images, problems):
        if problem:
            skip(folder / image.file, problem)
    return [image for image, problem in zip(images, problems) if not problem]
