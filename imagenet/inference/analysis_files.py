"""`--analyze`: writes the tables and pictures of a validation to a folder."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.files import write_json
from imagenet.common.wordnet import short_name
from imagenet.datasets.decoding import read_pixels
from imagenet.datasets.records import RecordFile
from imagenet.inference.analysis import (
    count_by_class,
    count_confusions,
    measure_reliability,
    most_confident_mistakes,
    most_confused,
)
from imagenet.inference.example_results import DIGITS, ExampleResults, write_csv
from imagenet.reporting.analysis_figures import draw_confusion, draw_reliability, draw_training_images
from imagenet.reporting.analysis_folder import (
    CALIBRATION_PICTURE,
    CONFUSION,
    CONFUSION_PICTURE,
    MISTAKES_PICTURE,
    PER_CLASS,
    PICTURES,
    SUMMARY,
    TRAINING_PICTURE,
)
from imagenet.reporting.figures import save_figure
from imagenet.reporting.image_grid import DOTS_PER_INCH, center_square, draw_grid
from imagenet.training.metrics import TOP_K

MISTAKES_SHOWN = 24
CONFUSIONS_IN_SUMMARY = 20
# Of means: more than those of what is averaged.
SUMMARY_DIGITS = 6
OPTION = '--analyze'


def add_analysis_args(parser):
    group = parser.add_argument_group('Analysis')
    group.add_argument(
        OPTION,
        type=Path,
        metavar='DIR',
        help='--mode val: write to this folder, as tables and pictures, the accuracy of each class, the confusion '
        'matrix, the most confident mistakes, the calibration, and the accuracy over the number of training images '
        'per class',
    )
    return group


def check_analysis_folder(folder):
    """Raise `UserError` if a file of the analysis could not be replaced."""
    for name in (SUMMARY, PER_CLASS, CONFUSION, *PICTURES):
        if (folder / name).is_dir():
            raise UserError(f'{OPTION} {folder}: its {name} is a folder; choose another one')


@dataclass(frozen=True)
class Validation:
    """A validation to analyze.

    Attributes:
        results: its `ExampleResults`.
        names: the names of the classes.
        records: the paths of the record file and its index; None for synthetic images.
        training_images: by class, int64 `(num_classes,)`; None if it is unknown.
    """

    results: ExampleResults
    names: list
    records: Optional[tuple]
    training_images: Optional[np.ndarray]


def write_analysis(folder, validation):
    """Write the analysis of a `Validation` to a folder that exists. Its other files are left alone.

    Returns:
        Lines for the log.

    Raises:
        UserError: a file cannot be written, or an image cannot be read.
    """
    results, names = validation.results, validation.names
    table, confusions = count_by_class(results, len(names)), count_confusions(results)
    reliability, frequent = measure_reliability(results), most_confused(confusions)
    write_csv(folder / PER_CLASS, *class_rows(table, names, validation.training_images, frequent))
    write_csv(folder / CONFUSION, ('label', 'said', 'count'), confusions)
    write_json(folder / SUMMARY, summarize(results, reliability, frequent, names))
    pictures, notes = choose_pictures(validation, table, confusions, frequent, reliability)
    for name in PICTURES:
        if name in pictures:
            save_figure(pictures[name](), folder / name, OPTION, DOTS_PER_INCH)
        else:
            # Of an earlier analysis.
            (folder / name).unlink(missing_ok=True)
    error = reliability.expected_calibration_error
    return [f'{OPTION} {folder}: expected calibration error {error:.4f}', *notes]


def choose_pictures(validation, table, confusions, frequent, reliability):
    """Return functions that draw the pictures, by file name, and lines for the log about those that cannot be drawn."""
    results, names = validation.results, list(map(short_name, validation.names))
    error = reliability.expected_calibration_error
    pictures = {
        CONFUSION_PICTURE: partial(draw_confusion, confusions, frequent, table.images, names),
        CALIBRATION_PICTURE: partial(draw_reliability, **vars(reliability), error=error),
    }
    notes = []
    if validation.training_images is None:
        notes.append(f'no {TRAINING_PICTURE}: the data set has no train.lst with the labels of its training images')
    else:
        pictures[TRAINING_PICTURE] = partial(draw_training_images, validation.training_images, table.top1, names)
    if validation.records is None:
        notes.append(f'no {MISTAKES_PICTURE}: synthetic data has no images')
    elif not frequent:
        notes.append(f'no {MISTAKES_PICTURE}: there are no mistakes')
    else:
        pictures[MISTAKES_PICTURE] = partial(draw_mistakes, results, names, validation.records)
    return pictures, notes


def class_rows(table, names, training_images, frequent):
    """Return the columns and the rows of `per_class.csv`.

    Args:
        table: the `ClassTable`.
        names: the names of the classes.
        training_images: by class, `(num_classes,)`; None if it is unknown.
        frequent: the mistakes as `Confusion`s, the most frequent first.
    """
    columns = {
        'class': range(len(names)),
        'name': names,
        'training_images': [''] * len(names) if training_images is None else training_images.tolist(),
        'images': table.images.tolist(),
        'correct': table.correct.tolist(),
        'correct_top5': table.correct_top5.tolist(),
        'top1': map(_share_as_text, table.top1),
        'top5': map(_share_as_text, table.top5),
        'said': table.said.tolist(),
        'precision': map(_share_as_text, table.precision),
    }
    taken_for = {}
    for label, said, count in frequent:
        taken_for.setdefault(label, (names[said], count))
    rows = ((*cells, *taken_for.get(label, ('', 0))) for label, cells in enumerate(zip(*columns.values())))
    return (*columns, 'most_often_taken_for', 'times'), rows


def _share_as_text(share):
    return '' if np.isnan(share) else f'{share:.{DIGITS}f}'


def summarize(results, reliability, frequent, names):
    """Return the content of `summary.json`."""
    bins = (reliability.counts, reliability.probabilities, reliability.accuracies)
    return {
        'images': len(results),
        'classes': len(names),
        'correct': int(results.is_right.sum()),
        'top1': float(results.is_right.mean()),
        'top5': float((results.ranks <= TOP_K).mean()),
        'mean_probability': round(float(results.probabilities.mean()), SUMMARY_DIGITS),
        'expected_calibration_error': round(reliability.expected_calibration_error, SUMMARY_DIGITS),
        'calibration': [
            {'images': count, 'probability': round(probability, SUMMARY_DIGITS), 'top1': accuracy}
            for count, probability, accuracy in zip(*(values.tolist() for values in bins))
            if count
        ],
        'most_confused': [
            {'label': names[label], 'said': names[said], 'count': count}
            for label, said, count in frequent[:CONFUSIONS_IN_SUMMARY]
        ],
    }


def draw_mistakes(results, names, records):
    """Return a figure of the most confident mistakes; raise `UserError` if an image cannot be read."""
    images, titles = [], []
    with RecordFile(*records) as file:
        for place in most_confident_mistakes(results, MISTAKES_SHOWN):
            pixels, _ = read_pixels(file, results.numbers[place])
            images.append(center_square(pixels))
            probability = f'{results.probabilities[place]:.0%}'
            titles.append(f'{names[results.labels[place]]}\n{probability} {names[results.said[place]]}')
    return draw_grid(images, titles)
