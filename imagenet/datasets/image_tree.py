"""Lists an image tree: its splits and classes, the label and path of each image, and the files that are not images."""

import os
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random

from imagenet.common.errors import UserError
from imagenet.common.text import printable
from imagenet.datasets.splits import SPLITS, check_classes

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
# The training list is shuffled in this many pieces. With 100 million lines, each piece takes 50 MB.
NUM_BUCKETS = 256
LINES_AT_ONCE = 100_000
IM2REC_SEED = 100


def find_roots(raw, val_fraction):
    """Return the folder that contains the classes, by split.

    Raises:
        UserError: the folder does not exist, the tree is already split and `val_fraction` is given, or the tree is not
            split and `val_fraction` is None.
    """
    if not raw.is_dir():
        raise UserError(f'{raw}: no such folder')
    for suffix in ('', '-jpeg'):
        roots = {split: raw / f'{split}{suffix}' for split in SPLITS}
        if not all(root.is_dir() for root in roots.values()):
            continue
        if val_fraction is not None:
            names = ' and '.join(root.name for root in roots.values())
            raise UserError(f'--val-fraction {val_fraction:g}: {raw} is already split, into {names}; omit the option')
        return roots
    if val_fraction is None:
        raise UserError(
            f'{raw}: must contain the folders train and val, or train-jpeg and val-jpeg, with a folder per class in '
            'each; or use --val-fraction to split the class folders in it'
        )
    return dict.fromkeys(SPLITS, raw)


def list_images(work, raw, roots, val_fraction, random):
    """Write `classes.txt` and, for each split, a list of its images in order: a label and a path per line.

    Returns:
        The number of images, by split.

    Raises:
        UserError: the tree is not a usable data set; the message gives the reason.
    """
    for root in sorted(set(roots.values())):
        print(f'listing {root}')
    classes, listed = {split: [] for split in SPLITS}, dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        train, val, skipped = (
            stack.enter_context((work / name).open('wb')) for name in ('train.sorted', 'val.list', 'data/skipped.txt')
        )
        lists = dict(zip(SPLITS, (train, val)))

        def skip(path, reason):
            skipped.write(skipped_line(raw, path, reason))

        labelled = read_splits(roots, skip) if val_fraction is None else split_tree(raw, val_fraction, random, skip)
        for split, label, name, images in labelled:
            classes[split].append(name)
            listed[split] += len(images)
            lists[split].writelines(b'%d\t%s\n' % (label, os.fsencode(f'{name}/{image}')) for image in images)
    for split in SPLITS:
        if not listed[split]:
            raise UserError(f'{roots[split]}: no images in its folders ({", ".join(EXTENSIONS)})')
    check_classes(classes['train'], classes['val'], raw)
    (work / 'data' / 'classes.txt').write_text(''.join(f'{name}\n' for name in classes['train']), encoding='utf-8')
    return listed


def read_splits(roots, skip):
    """Yield (split, label, class, names of its images) for each class of a tree that is already split."""
    for split, root in roots.items():
        for label, (name, images) in enumerate(class_folders(root, skip)):
            yield split, label, name, images


def split_tree(raw, val_fraction, random, skip):
    """Split an unsplit tree and yield the same tuples as `read_splits`, with part of each class for validation."""
    for label, (name, images) in enumerate(class_folders(raw, skip)):
        num_val = min(max(1, round(len(images) * val_fraction)), len(images) - 1)
        chosen = set(random.permutation(len(images))[:num_val])
        yield 'train', label, name, [image for number, image in enumerate(images) if number not in chosen]
        if chosen:
            yield 'val', label, name, [images[number] for number in sorted(chosen)]


def class_folders(root, skip):
    """Yield (folder, names of its images) for each folder that contains images, in the order of im2rec.py.

    Args:
        skip: a function called with the path of each file that is not an image, and the reason.

    Raises:
        UserError: a folder cannot be read, has no images, or has a name that `classes.txt` cannot hold.
    """
    for folder, subfolders, files in os.walk(root, onerror=_cannot_read, followlinks=True):
        for hidden in sorted(name for name in subfolders if name.startswith('.')):
            skip(Path(folder, hidden), 'a hidden folder')
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        images = []
        for file in sorted(files):
            problem = problem_of_name(file)
            if problem:
                skip(Path(folder, file), problem)
            else:
                images.append(file)
        if images:
            name = os.path.relpath(folder, root)
            check_class_name(name, folder)
            yield name, images
        elif not subfolders and folder != str(root):
            raise UserError(f'{printable(folder)}: a class without images; add some, or remove the folder')


def _cannot_read(error):
    raise UserError(f'{printable(error.filename)}: cannot read this folder ({error.strerror})')


def problem_of_name(name):
    """Return the reason why a file with this name is not packed, or None if it is packed."""
    if name.startswith('.'):
        return 'a hidden file'
    if Path(name).suffix.lower() not in EXTENSIONS:
        return 'not an image, judging by its name'
    if breaks_lists(name):
        return 'a tab or a line break in its name, which lists cannot hold'
    return None


def check_class_name(name, folder):
    """Raise `UserError` if `classes.txt` cannot hold the name."""
    if breaks_lists(name):
        raise UserError(f'{printable(folder)}: a tab or a line break in a class name; rename the folder')
    try:
        name.encode('utf-8')
    except UnicodeEncodeError:
        raise UserError(f'{printable(folder)}: this class name is not valid UTF-8; rename the folder') from None


def breaks_lists(name):
    return '\t' in name or name.splitlines() != [name]


def skipped_line(raw, path, reason):
    return f'{printable(os.path.relpath(path, raw))}\t{printable(reason)}\n'.encode()


def shuffle_like_im2rec(source, target):
    """Move the lines of a file to another file in the order of im2rec.py, each with its number before as its key."""
    lines = source.read_bytes().splitlines()
    numbers = list(range(len(lines)))
    Random(IM2REC_SEED).shuffle(numbers)
    with target.open('wb') as file:
        file.writelines(b'%s\t%d\n' % (lines[number], number) for number in numbers)
    source.unlink()


def shuffle_lines(source, target, buckets, random):
    """Move the lines of a file to another file in random order, without holding them all in memory.

    Each line is written to a randomly drawn bucket file; then each bucket is shuffled.
    """
    buckets.mkdir(exist_ok=True)
    paths = [buckets / str(number) for number in range(NUM_BUCKETS)]
    with source.open('rb') as lines, ExitStack() as stack:
        files = [stack.enter_context(path.open('wb')) for path in paths]
        for chunk in iter(lambda: list(islice(lines, LINES_AT_ONCE)), []):
            for line, number in zip(chunk, random.randint(NUM_BUCKETS, size=len(chunk))):
                files[number].write(line)
    source.unlink()
    with target.open('wb') as file:
        for path in paths:
            lines = path.read_bytes().splitlines(keepends=True)
            file.writelines(lines[number] for number in random.permutation(len(lines)))
            path.unlink()
    buckets.rmdir()
