"""Packs lists of images into record files; an interrupted run can resume."""

import json
import os
import shutil
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.files import flush_to_disk, keep_work_on_error, open_at, sole_use_of, write_atomically
from imagenet.common.parallel import map_in_order
from imagenet.datasets.conversion import convert_line
from imagenet.datasets.decoding import decode_record_image
from imagenet.datasets.image_lists import list_images, shuffle_like_im2rec, shuffle_lines, skipped_line
from imagenet.datasets.progress import progress
from imagenet.datasets.records import check_record_file, pack_image, scan_records, unpack_image
from imagenet.datasets.sources import find_sources, fingerprint
from imagenet.datasets.splits import SPLITS, first
from imagenet.reporting.json_files import read_json

SCHEMA = Path(__file__).resolve().with_name('packing_schema.json')
# A killed run loses the work on fewer images than this.
IMAGES_BETWEEN_SAVES = 512
SAMPLE_SIZE = 1000
# The value of the option `order` for the files that MXNet's im2rec.py makes.
IM2REC_ORDER = 'im2rec'


def prepare(raw, out, options, threads):
    """Create the data set, or resume an interrupted run.

    Args:
        options: the options that determine the content of the data set; they are stored in it.
    """
    sources = find_sources(raw, options['val_fraction'], threads)
    check_out(out)
    work = out.parent / f'.{out.name}.partial'
    work.mkdir(parents=True, exist_ok=True)
    with sole_use_of(work / 'lock'):
        state = read_state(work, options, sources)
        if state:
            print(f'resuming: {sum(state.packed.values())} of {sum(state.listed.values())} images are packed')
        else:
            state = begin(work, raw, sources, options)
        with keep_work_on_error(work):
            for split in SPLITS:
                pack_split(split, raw, sources[split], work, state, threads)
        print('checking the record files')
        counts = check_result(work)
        with keep_work_on_error(work):
            num_skipped = count_skipped(work / 'data')
            if options.get('order') != IM2REC_ORDER:
                write_description(work / 'data', counts, num_skipped, options, threads)
            publish(work, out)
    num_train, num_val = (sum(counts[split].values()) for split in SPLITS)
    print(f'{out}: {num_train} training and {num_val} validation images, {len(counts["train"])} classes')
    if num_skipped:
        print(f'files skipped: {num_skipped}, listed in {out}/skipped.txt')


def check_out(out):
    """Remove the output folder if it is empty; raise `UserError` if it is not."""
    if out.exists():
        try:
            out.rmdir()
        except OSError:
            raise UserError(f'{out}: exists and is not empty; remove it, or name another folder') from None


@dataclass
class PackingState:
    """The progress stored in `state.json`. Bytes of a file beyond its entry in `sizes` belong to an unfinished step."""

    options: dict
    images: str  # the `fingerprint` of the sources
    listed: dict  # number of images, by split
    done: dict  # how many of them were packed or skipped
    packed: dict
    sizes: dict  # of the files in `data`

    def save(self, work):
        write_atomically(work / 'state.json', lambda path: path.write_text(json.dumps(asdict(self)), encoding='utf-8'))


def read_state(work, options, sources):
    """Return the `PackingState` of an interrupted run, or None if there is nothing to resume.

    Raises:
        UserError: the state is damaged, or the run had other options or other images.
    """
    path = work / 'state.json'
    if not (path.exists() and (work / 'data').exists()):
        return None
    state = PackingState(**read_json(path, SCHEMA, 'the state of a run', advice=f'remove {work} to start over'))
    different = [
        f'{name} was {state.options.get(name)}, is {options.get(name)}'
        for name in {**options, **state.options}
        if state.options.get(name) != options.get(name)
    ]
    if different:
        raise UserError(
            f'{work}: contains the work of a run with other options ({"; ".join(different)}); '
            'use the same options to resume it, or remove this folder'
        )
    if state.images != fingerprint(sources):
        raise UserError(f'{options["raw"]}: its files have changed since the run began; remove {work} to start over')
    return replace(state, options=options)


def begin(work, raw, sources, options):
    """Write the lists of images to pack. If this fails, remove the work folder.

    Returns:
        The initial `PackingState`.
    """
    try:
        data = work / 'data'
        data.mkdir(exist_ok=True)
        random = np.random.RandomState(options['seed'])
        images = fingerprint(sources)
        listed = list_images(work, raw, sources, options['val_fraction'], random)
        if options.get('order') == IM2REC_ORDER:
            shuffle_like_im2rec(work / 'train.sorted', work / 'train.list')
        else:
            shuffle_lines(work / 'train.sorted', work / 'train.list', work / 'buckets', random)
        for path in (work / 'train.list', work / 'val.list', data / 'skipped.txt'):
            flush_to_disk(path)
        state = PackingState(
            options=options,
            images=images,
            listed=listed,
            done=dict.fromkeys(SPLITS, 0),
            packed=dict.fromkeys(SPLITS, 0),
            sizes={'skipped.txt': (data / 'skipped.txt').stat().st_size},
        )
        state.save(work)
        return state
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def pack_split(split, raw, source, work, state, threads):
    """Append the remaining images of a split to its files, starting at the position stored in the state."""
    listed, done = state.listed[split], state.done[split]
    if done == listed:
        return
    print(f'packing {listed - done} images of {source} as {split}')
    began = time.monotonic()
    convert = partial(convert_line, source, state.options['resize'], state.options['quality'])
    names = (f'{split}.rec', f'{split}.idx', f'{split}.lst', 'skipped.txt')
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(open_at(work / 'data' / name, state.sizes.get(name, 0), work)) for name in names
        }
        rec, idx, lst, skipped = files.values()
        lines = islice(stack.enter_context((work / f'{split}.list').open('rb')), done, None)
        advance = stack.enter_context(progress(listed, done))
        for converted in map_in_order(convert, lines, threads):
            if converted.problem:
                path = source.path_of(converted.name, converted.place)
                skipped.write(skipped_line(raw, path, converted.problem))
            else:
                key = state.packed[split] if converted.key is None else converted.key
                idx.write(b'%d\t%d\n' % (key, rec.tell()))
                lst.write(b'%d\t%f\t%s\n' % (key, converted.label, os.fsencode(converted.name)))
                rec.write(pack_image(key, converted.label, converted.image))
                state.packed[split] += 1
            state.done[split] += 1
            advance()
            if state.done[split] % IMAGES_BETWEEN_SAVES == 0 or state.done[split] == listed:
                save(state, files, work)
    seconds = time.monotonic() - began
    print(f'{listed - done} images in {seconds:.1f} s, {(listed - done) / seconds:.0f} images/s')


def save(state, files, work):
    for name, file in files.items():
        file.flush()
        os.fsync(file.fileno())
        state.sizes[name] = file.tell()
    state.save(work)


def check_result(work):
    """Check the record files that were packed.

    Returns:
        The number of images of each class, by split and class name.

    Raises:
        UserError: a class has no usable image, or a record file is damaged.
    """
    data = work / 'data'
    classes = (data / 'classes.txt').read_text(encoding='utf-8').splitlines()
    counts = {}
    for split in SPLITS:
        with (data / f'{split}.lst').open('rb') as lines:
            by_label = Counter(int(float(line.split(b'\t')[1])) for line in lines)
        counts[split] = {name: by_label[label] for label, name in enumerate(classes)}
        empty = [name for name, count in counts[split].items() if count == 0]
        if empty:
            raise UserError(
                f'{first(empty)}: no usable {split} image is in this class, see {data}/skipped.txt; fix or remove '
                f'the class, and remove {work} to start over'
            )
        check_record_file(data / f'{split}.rec', data / f'{split}.idx', len(classes))
    return counts


def count_skipped(data):
    """Return the number of skipped files, and remove `skipped.txt` if there are none."""
    with (data / 'skipped.txt').open('rb') as lines:
        num_skipped = sum(1 for _ in lines)
    if not num_skipped:
        (data / 'skipped.txt').unlink()
    return num_skipped


def write_description(data, counts, num_skipped, options, threads):
    """Write `dataset.json`."""
    description = {
        'classes': list(counts['train']),
        **{split: {'images': sum(counts[split].values()), 'images_per_class': counts[split]} for split in SPLITS},
        **measure_channels(data, threads),
        'skipped': num_skipped,
        'options': options,
    }
    (data / 'dataset.json').write_text(json.dumps(description, indent=2) + '\n', encoding='utf-8')


def measure_channels(data, threads):
    """Return the channels' mean and standard deviation, on a scale of 0 to 255, over the first training images.

    The training images are shuffled, so these are a random sample. Every image has the same weight, whatever its size,
    as in training.
    """
    with (data / 'train.rec').open('rb') as records:
        payloads = (segment.payload for segment in islice(scan_records(records), SAMPLE_SIZE))
        moments = list(map_in_order(channel_moments, payloads, threads))
    mean, mean_of_squares = np.mean(moments, axis=0)
    std = np.sqrt(np.maximum(mean_of_squares - mean**2, 0))
    return {'rgb_mean': mean.round(3).tolist(), 'rgb_std': std.round(3).tolist(), 'rgb_sample': len(moments)}


def channel_moments(payload):
    """Return the means of a record's red, green and blue channels, and the means of their squares."""
    mean, std = (values[::-1, 0] for values in cv2.meanStdDev(decode_record_image(unpack_image(payload).image)))
    return mean, std**2 + mean**2


def publish(work, out):
    """Flush the data set to disk, then give it its final name and remove the work folder."""
    data = work / 'data'
    for path in data.iterdir():
        flush_to_disk(path)
    flush_to_disk(data)
    data.rename(out)
    flush_to_disk(out.parent)
    shutil.rmtree(work)
