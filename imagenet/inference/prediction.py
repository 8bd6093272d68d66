"""`--mode pred`: classifies an image, all images in a folder, or the images in a list."""

import csv
import itertools
import json
import os
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.files import write_atomically
from imagenet.common.options import integer
from imagenet.common.parallel import map_in_order
from imagenet.common.text import printable
from imagenet.datasets.decoding import MAX_PIXELS, MOST_PIXELS
from imagenet.input_pipeline.transforms import load_image
from imagenet.runtime.threads import available_cores, run_on_all_cores

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
LIST_SUFFIXES = ('.lst', '.txt')
CLASSES_OF_ONE_IMAGE = 10
CLASSES_OF_MANY = 5
# Started before the results of earlier ones are taken, so that the engine never waits for images.
BATCHES_AHEAD = 1


def add_prediction_args(parser):
    group = parser.add_argument_group('Prediction')
    group.add_argument(
        '--data-pred', type=Path, help='what --mode pred classifies: an image, a folder, or a list (.txt) of images'
    )
    group.add_argument(
        '--max-pixels',
        type=integer(1, MOST_PIXELS),
        default=MAX_PIXELS,
        help='--mode pred: refuse larger images, as they may fill the memory (default: %(default)s)',
    )
    return group


@dataclass(frozen=True)
class PredictionOptions:
    """The options of the same names.

    Raises:
        UserError: the output cannot be written.
    """

    data_pred: Path
    output: Path
    batch_size: int
    max_pixels: int

    def __post_init__(self):
        if self.output is not None and self.output.suffix not in ('.csv', '.json'):
            raise UserError(f'--output {self.output}: must be the name of a .csv or .json file')
        if self.output is not None and not self.output.absolute().parent.is_dir():
            raise UserError(f'--output {self.output}: there is no such folder')


def find_images(path):
    """Return the paths of the images that `--data-pred` names.

    Raises:
        UserError: there are none.
    """
    if path.is_dir():
        found = sorted(file for file in path.rglob('*') if file.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise UserError(f'--data-pred {path}: this folder contains no images ({", ".join(IMAGE_SUFFIXES)})')
        return found
    if path.suffix.lower() not in LIST_SUFFIXES:
        return [path]
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'--data-pred {path}: cannot read this list ({error})') from None
    found = [path.parent / line.strip() for line in lines if line.strip()]
    if not found:
        raise UserError(f'--data-pred {path}: this list contains no image')
    return found


def classify(engine, paths, batch_size, evaluation, max_pixels=MAX_PIXELS):
    """Decode images in threads and classify them in batches; a batch is decoded while another is computed.

    Args:
        engine: computes the logits; see engines.py.

    Yields:
        (path, probabilities `(num_classes,)`) or (path, error message), in order.
    """

    def load(path):
        try:
            return path, load_image(path, evaluation, max_pixels)
        except UserError as error:
            return path, str(error)

    run_on_all_cores()
    with closing(map_in_order(load, paths, available_cores(), most_ahead=batch_size)) as loaded:
        computed = deque()
        for batch in iter(lambda: list(itertools.islice(loaded, batch_size)), []):
            images = [image for _, image in batch if not isinstance(image, str)]
            computed.append((batch, engine.start(np.concatenate(images)) if images else tuple))
            if len(computed) > BATCHES_AHEAD:
                yield from _results(*computed.popleft())
        while computed:
            yield from _results(*computed.popleft())


def _results(batch, logits):
    """Yield what `classify` does for a batch, from a function that waits for the logits of its images."""
    rows = map(softmax, logits())
    for path, image in batch:
        yield path, image if isinstance(image, str) else next(rows)


def softmax(logits):
    """Return the probabilities of the classes for the logits of an image."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def likeliest(row, count):
    """Return [(class index, probability)] of the most likely classes, in descending order."""
    order = np.argsort(-row, kind='stable')[:count]
    return [(int(index), float(row[index])) for index in order]


def predict(engine, names, options, evaluation):
    """Classify the images of `--data-pred`, print the results, and write them to `--output`.

    An unreadable image is reported on its own line. If no image can be read, that is an error.

    Args:
        engine: computes the logits; see engines.py.
        names: names of the classes.
        options: `PredictionOptions`.
        evaluation: `EvaluationOptions`.

    Raises:
        UserError: no image can be read, or the output cannot be written.
    """
    paths = find_images(options.data_pred)
    is_alone = len(paths) == 1
    results = []
    with closing(classify(engine, paths, options.batch_size, evaluation, options.max_pixels)) as classified:
        for path, row in classified:
            if isinstance(row, str):
                results.append({'file': str(path), 'error': row, 'classes': []})
            else:
                found = likeliest(row, CLASSES_OF_ONE_IMAGE if is_alone else CLASSES_OF_MANY)
                classes = [{'index': index, 'name': names[index], 'probability': value} for index, value in found]
                results.append({'file': str(path), 'error': None, 'classes': classes})
            if not is_alone:
                print(line_of(results[-1]), flush=True)
    if all(result['error'] for result in results):
        raise UserError(results[0]['error'])
    if is_alone:
        for found in results[0]['classes']:
            print(f'{found["probability"]:8.4%}  {found["name"]}')
    if options.output is not None:
        write_results(options.output, results)


def line_of(result):
    """Return the line that is printed for one of many images."""
    if result['error']:
        return printable(f'   error  {result["error"]}')
    best = result['classes'][0]
    return printable(f'{best["probability"]:8.4%}  {best["name"]}  {result["file"]}')


def write_results(path, results):
    """Write a CSV row or a JSON object for each image."""

    def write(temporary):
        # File names may not be valid text.
        with temporary.open('w', encoding='utf-8', errors='backslashreplace', newline='') as file:
            if path.suffix == '.json':
                json.dump(results, file, indent=2)
                file.write(os.linesep)
            else:
                write_csv(file, results)

    write_atomically(path, write)


def write_csv(file, results):
    count = max(len(result['classes']) for result in results)
    columns = [f'{name}_{rank + 1}' for rank in range(count) for name in ('class', 'probability')]
    writer = csv.writer(file)
    writer.writerow(['file', 'error', *columns])
    for result in results:
        cells = [cell for found in result['classes'] for cell in (found['name'], found['probability'])]
        writer.writerow([result['file'], result['error'] or '', *cells])
