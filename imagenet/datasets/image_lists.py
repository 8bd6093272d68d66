"""Writes the lists of images to pack: the images of each split in their order, and the names of the classes.

A list has a line per image: its label; its name, CLASS/FILE; the place where its source finds it; and, in the order of
im2rec.py, its key. See sources.py.
"""

import os
from contextlib import ExitStack
from itertools import islice
from random import Random

from imagenet.common.text import printable
from imagenet.datasets.class_names import append_words
from imagenet.datasets.splits import SPLITS, check_classes

# The training list is shuffled in this many pieces. With 100 million lines, each piece takes 50 MB.
NUM_BUCKETS = 256
LINES_AT_ONCE = 100_000
IM2REC_SEED = 100


def list_images(work, raw, sources, val_fraction, random):
    """Write `classes.txt` and, for each split, a list of its images in order.

    Args:
        sources: the source of the images, by split; the same one for both if `val_fraction` splits it.

    Returns:
        The number of images, by split.

    Raises:
        UserError: the sources are not a usable data set; the message gives the reason.
    """
    for title in sorted(set(map(str, sources.values()))):
        print(f'listing {title}')
    classes, listed = {split: [] for split in SPLITS}, dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        train, val, skipped = (
            stack.enter_context((work / name).open('wb')) for name in ('train.sorted', 'val.list', 'data/skipped.txt')
        )
        lists = dict(zip(SPLITS, (train, val)))

        def skip(path, reason):
            skipped.write(skipped_line(raw, path, reason))

        if val_fraction is None:
            labelled = read_splits(sources, skip, work)
        else:
            labelled = split_classes(sources['train'], val_fraction, random, skip, work)
        for split, label, name, images in labelled:
            classes[split].append(name)
            listed[split] += len(images)
            lists[split].writelines(os.fsencode(f'{label}\t{name}/{image.file}\t{image.place}\n') for image in images)
    check_classes(classes['train'], classes['val'], raw)
    names = append_words(classes['train'], {**sources['train'].words, **sources['val'].words})
    (work / 'data' / 'classes.txt').write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
    return listed


def read_splits(sources, skip, scratch):
    """Yield (split, label, class, its images) for each class of images that are already split."""
    for split, source in sources.items():
        for label, (name, images) in enumerate(source.classes(skip, scratch)):
            yield split, label, name, images


def split_classes(source, val_fraction, random, skip, scratch):
    """Split a source and yield the same tuples as `read_splits`, with part of each class for validation."""
    for label, (name, images) in enumerate(source.classes(skip, scratch)):
        num_val = min(max(1, round(len(images) * val_fraction)), len(images) - 1)
        chosen = set(random.permutation(len(images))[:num_val])
        yield 'train', label, name, [image for number, image in enumerate(images) if number not in chosen]
        if chosen:
            yield 'val', label, name, [images[number] for number in sorted(chosen)]


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
