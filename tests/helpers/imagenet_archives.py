"""ImageNet 2012's archives of a small image tree, as they are downloaded."""

import io
import tarfile

import numpy as np
from scipy.io import savemat

SYNSET = np.dtype([(name, object) for name in ('ILSVRC2012_ID', 'WNID', 'words', 'gloss', 'num_children', 'children')])
DEVKIT = 'ILSVRC2012_devkit_t12'


def write_archives(tree, folder, words):
    """Write the archives of a tree with images in train/<WordNet ID> and val/<WordNet ID>; return the folder.

    Args:
        words: the words of each class, by WordNet ID. Their order is that of the classes' numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_training_archive(tree / 'train', folder / 'ILSVRC2012_img_train.tar')
    images = sorted((tree / 'val').glob('*/*'), key=lambda path: path.name)
    write_tar(folder / 'ILSVRC2012_img_val.tar', {path.name: path.read_bytes() for path in images})
    numbers = {name: number for number, name in enumerate(words, 1)}
    write_devkit(folder / f'{DEVKIT}.tar.gz', words, [numbers[path.parent.name] for path in images])
    return folder


def write_training_archive(classes, path):
    """Write an archive of the archives of class folders, neither of them sorted."""
    archives = {
        f'{folder.name}.tar': tar_of({image.name: image.read_bytes() for image in sorted(folder.iterdir())[::-1]})
        for folder in sorted(classes.iterdir())[::-1]
    }
    write_tar(path, archives)


def write_devkit(path, words, ground_truth):
    """Write the development kit: as a folder, or as an archive if the path has a suffix.

    Args:
        words: see `write_archives`.
        ground_truth: the numbers of the validation images' classes, or text.
    """
    lines = ground_truth if isinstance(ground_truth, str) else ''.join(f'{number}\n' for number in ground_truth)
    files = {
        f'{DEVKIT}/readme.txt': b'ILSVRC 2012',
        f'{DEVKIT}/data/meta.mat': meta(words),
        f'{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt': lines.encode(),
    }
    if path.suffix:
        write_tar(path, files, 'w:gz')
        return
    for name, content in files.items():
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(content)


def meta(words, is_compressed=True, name='synsets'):
    """Return the content of meta.mat for classes and a synset above them."""
    rows = [(number, name, words[name], 'a gloss', 0, []) for number, name in enumerate(words, 1)]
    rows.append((len(rows) + 1, 'n00001740', 'entity', 'all of them', len(rows), list(range(1, len(rows) + 1))))
    file = io.BytesIO()
    savemat(file, {name: np.array(rows, dtype=SYNSET).reshape(-1, 1)}, do_compression=is_compressed)
    return file.getvalue()


def tar_of(files, mode='w'):
    """Return an archive of files, given by name: their content, or a `tarfile.TarInfo` without content."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode, format=tarfile.GNU_FORMAT) as archive:
        for name, member in files.items():
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(member)
                archive.addfile(info, io.BytesIO(member))
    return content.getvalue()


def write_tar(path, files, mode='w'):
    path.write_bytes(tar_of(files, mode))
