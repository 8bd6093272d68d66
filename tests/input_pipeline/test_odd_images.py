"""The same decision (decoded or refused) and the same pixels, whatever reads an image."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from tabulate import tabulate

from helpers.loaders import load, make_args, raw_pixels, read, without_augmentation, write_records
from helpers.odd_images import odd_images
from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.datasets.conversion import UnusableError, convert_image
from imagenet.datasets.records import RecordFile, index_path
from imagenet.input_pipeline.transforms import evaluation_images, evaluation_transform, load_image

# That of the square images: `ImageRecordIter` would not resize them, but cut out their center.
SIDE = 48
# Of the range of pixel values, on average over the image.
TOLERANCE = 0.02
REFUSED = 'refused'


def evaluation_args(backend='mxnet', **changes):
    shape = {'image_shape': (3, SIDE, SIDE), 'data_val_resize': SIDE}
    return raw_pixels(make_args(backend=backend, batch_size=1, num_classes=1000, **shape, **changes))


def validate(backend):
    return lambda path: read(load(evaluation_args(backend, mode=Mode.VAL, data_val=path))[1])


def train(backend):
    def read_file(path):
        num_examples = len(index_path(path).read_text().splitlines())
        args = evaluation_args(backend, mode=Mode.TRAIN, data_train=path, num_examples=num_examples)
        return read(load(without_augmentation(args))[0])

    return read_file


def calibrate(path):
    records = RecordFile(path, index_path(path))
    numbers = range(len(records))
    images = np.stack(list(evaluation_images(records, numbers, evaluation_args())))
    return images, [int(records.read(number).label) for number in numbers]


# Functions of a record file that return images and labels.
READERS = {
    'dali-cpu': validate('dali-cpu'),
    'mxnet': validate('mxnet'),
    'calibration': calibrate,
    'dali-cpu, training': train('dali-cpu'),
    'mxnet, training': train('mxnet'),
}


def read_together(read_file, stored, folder):
    """Return the pixels of images, by number, which are read from one record file."""
    path = write_records(folder, list(stored.values()), labels=list(stored), split='val')
    images, labels = read_file(path)
    return dict(zip(labels, images))


def read_alone(read_file, stored, folder):
    """Return the pixels of images, by number, each read from a record file of its own, or that it is refused."""
    return {
        number: outcome(lambda image=image: read_file(write_records(folder, [image], labels=[0], split='val'))[0][0])
        for number, image in stored.items()
    }


def outcome(function):
    try:
        return function()
    except (UserError, UnusableError):
        return REFUSED


def load_file(image, folder):
    (folder / f'image{image.suffix}').write_bytes(image.encoded)
    return load_image(folder / f'image{image.suffix}', evaluation_args())


def pack_file(image, folder):
    return convert_image(image.encoded, resize=None, quality=95)


def seen_by_a_viewer(encoded):
    """Return what Pillow shows of an image, with the evaluation transform applied."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    image = image.convert('RGB') if not image.mode.startswith('I') else Image.fromarray(np.asarray(image) >> 8)
    return evaluated(np.asarray(image.convert('RGB')))


def evaluated(shown):
    return evaluation_transform(np.ascontiguousarray(shown[:, :, ::-1]), evaluation_args())


def cell(found, shown):
    """Return the cell of the table, and whether it is as expected."""
    if isinstance(found, str) or shown is None:
        return found if isinstance(found, str) else 'decoded', isinstance(found, str) and shown is None
    difference = np.abs(found - evaluated(shown)).mean() / 255
    return f'{difference:.2%}', difference <= TOLERANCE


def test_same_decision_and_pixels(tmp_path):
    """The images in the files; then as the packers store them, or unchanged if they skip them, in record files."""
    images = dict(enumerate(odd_images()))
    packed = {number: outcome(lambda image=image: pack_file(image, tmp_path)) for number, image in images.items()}
    kept = {number: stored for number, stored in packed.items() if stored != REFUSED}
    skipped = {number: images[number].encoded for number in packed if number not in kept}
    columns = {
        'pred': {number: outcome(lambda image=image: load_file(image, tmp_path)) for number, image in images.items()},
        'packers': {**packed, **{number: seen_by_a_viewer(stored) for number, stored in kept.items()}},
    }
    for name, read_file in READERS.items():
        square = {n: stored for n, stored in kept.items() if len(set(images[n].shown.shape[:2])) == 1}
        together = square if 'training' in name else kept
        columns[name] = {**read_together(read_file, together, tmp_path), **read_alone(read_file, skipped, tmp_path)}
    rows, wrong = [], []
    for number, image in images.items():
        cells = [cell(column[number], image.shown) if number in column else ('-', True) for column in columns.values()]
        rows.append((image.name, 'decoded' if image.shown is not None else REFUSED, *(text for text, _ in cells)))
        if not all(is_right for _, is_right in cells):
            wrong.append(rows[-1])
    headers = ('image', 'expected', *columns)
    print(tabulate(rows, headers))
    assert len(rows) > 190
    assert not wrong, '\n' + tabulate(wrong, headers)


@pytest.mark.parametrize('name', READERS)
def test_records_that_the_packers_would_not_make(name, tmp_path):
    """What the packers convert, since not all readers decode it, is refused if it is in a record."""
    images = dict(enumerate(odd_images()))
    converted = {
        number: image.encoded
        for number, image in images.items()
        if image.shown is not None and pack_file(image, tmp_path) != image.encoded and 'BMP' not in image.name
    }
    found = read_alone(READERS[name], converted, tmp_path)
    assert len(converted) > 50
    assert [images[number].name for number, pixels in found.items() if not isinstance(pixels, str)] == []
