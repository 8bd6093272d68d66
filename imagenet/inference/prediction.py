"""`--mode pred`: classifies an image, all images in a folder, or the images in a list."""

import itertools
from collections import deque, namedtuple
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.options import integer
from imagenet.common.parallel import map_in_order
from imagenet.common.text import printable
from imagenet.datasets.decoding import MAX_PIXELS, MOST_PIXELS, RGB_CHANNELS
from imagenet.inference.prediction_results import FORMATS
from imagenet.input_pipeline.transforms import load_image
from imagenet.runtime.threads import available_cores, run_on_all_cores

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
        if self.output is not None and self.output.suffix not in FORMATS:
            raise UserError(f'--output {self.output}: must be the name of a {" or ".join(FORMATS)} file')
        if self.output is not None and not self.output.absolute().parent.is_dir():
            raise UserError(f'--output {self.output}: there is no such folder')


def classify(engine, paths, batch_size, evaluation, max_pixels=MAX_PIXELS):
    """Decode images in threads and classify them in batches; a batch is decoded while another is computed.

    Args:
        engine: computes the logits; see engines.py.

    Yields:
        (path, probabilities `(num_classes,)`) or (path, error message), in order.
    """

    def load(place):
        try:
            load_image(place.path, evaluation, max_pixels, out=place.images[place.row])
        except UserError as error:
            return place._replace(error=str(error))
        return place

    run_on_all_cores()
    places = _places(iter(paths), batch_size, evaluation.image_shape)
    with closing(map_in_order(load, places, available_cores(), most_ahead=batch_size)) as loaded:
        computed = deque()
        for batch in iter(lambda: list(itertools.islice(loaded, batch_size)), []):
            computed.append((batch, _start(engine, batch)))
            if len(computed) > BATCHES_AHEAD:
                yield from _results(*computed.popleft())
        while computed:
            yield from _results(*computed.popleft())


# Where an image of a batch is decoded to, `images[row]`, and why it could not be.
Place = namedtuple('Place', 'path images row error', defaults=(None,))


def _places(paths, batch_size, image_shape):
    """Yield a `Place` per path, an iterator. Those of a batch share an array, so that none is copied."""
    for batch in iter(lambda: list(itertools.islice(paths, batch_size)), []):
        images = np.empty((len(batch), RGB_CHANNELS, *image_shape[1:]), np.float32)
        yield from (Place(path, images, row) for row, path in enumerate(batch))


def _start(engine, batch):
    """Start to compute the logits of a batch, those of its images that are decoded."""
    images, decoded = batch[0].images, [place.row for place in batch if place.error is None]
    if not decoded:
        return tuple
    return engine.start(images if len(decoded) == len(images) else images[decoded])


def _results(batch, logits):
    """Yield what `classify` does for a batch, from a function that waits for the logits of its images."""
    rows = map(softmax, logits())
    for place in batch:
        yield place.path, place.error or next(rows)


def softmax(logits):
    """Return the probabilities of the classes for the logits of an image."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def likeliest(row, count):
    """Return [(class index, probability)] of the most likely classes, in descending order."""
    order = np.argsort(-row, kind='stable')[:count]
    return [(int(index), float(row[index])) for index in order]


def predict(engine, names, images, results, options, evaluation):
    """Classify images, print the results, and add them to the others, a batch at a time.

    An unreadable image is reported on its own line.

    Args:
        engine: computes the logits; see engines.py.
        names: names of the classes.
        images: the `ImageList`; those that are done are left out.
        results: `CountedResults` or `SavedResults`.
        options: `PredictionOptions`.
        evaluation: `EvaluationOptions`.

    Raises:
        UserError: the results cannot be written.
    """
    show = print_classes if len(images) == 1 else print_line
    paths, count = images.starting_at(results.done), num_likeliest(images)
    with closing(classify(engine, paths, options.batch_size, evaluation, options.max_pixels)) as classified:
        described = (describe(path, row, names, count) for path, row in classified)
        for batch in iter(lambda: list(itertools.islice(described, options.batch_size)), []):
            for result in batch:
                show(result)
            results.add(batch)


def num_likeliest(images):
    """Return how many classes are reported for each image of an `ImageList`."""
    return CLASSES_OF_ONE_IMAGE if len(images) == 1 else CLASSES_OF_MANY


def describe(path, row, names, count):
    """Return the result for an image as content for JSON, from what `classify` yields."""
    if isinstance(row, str):
        return {'file': path, 'error': row, 'classes': []}
    classes = [{'index': index, 'name': names[index], 'probability': value} for index, value in likeliest(row, count)]
    return {'file': path, 'error': None, 'classes': classes}


def print_classes(result):
    """Print the likeliest classes of the only image."""
    for found in result['classes']:
        print(f'{found["probability"]:8.4%}  {found["name"]}')


def print_line(result):
    """Print the line of one of many images."""
    if result['error']:
        line = f'   error  {result["error"]}'
    else:
        best = result['classes'][0]
        line = f'{best["probability"]:8.4%}  {best["name"]}  {result["file"]}'
    print(printable(line), flush=True)
