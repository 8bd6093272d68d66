"""The folder of `--analyze`: the names of its files, and reading what a page shows."""

from collections import namedtuple
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.reporting.json_files import read_json

SUMMARY, PER_CLASS, CONFUSION = 'summary.json', 'per_class.csv', 'confusion.csv'
# The pictures, with captions.
CONFUSION_PICTURE, MISTAKES_PICTURE = 'confusion.png', 'mistakes.png'
CALIBRATION_PICTURE, TRAINING_PICTURE = 'calibration.png', 'training_images.png'
PICTURES = {
    CONFUSION_PICTURE: 'Confusion matrix',
    MISTAKES_PICTURE: 'Most confident mistakes: what is right, and what the network says',
    CALIBRATION_PICTURE: 'Calibration',
    TRAINING_PICTURE: 'Accuracy over training images',
}
SCHEMA = Path(__file__).resolve().with_name('analysis_schema.json')
PNG_START = b'\x89PNG\r\n\x1a\n'
# Far more than any of these pictures has.
MOST_PICTURE_BYTES = 16 << 20

# `summary` is the content of summary.json, `pictures` the bytes of PNG files by name.
Analysis = namedtuple('Analysis', 'summary pictures')


def read_analysis(folder, option):
    """Return the `Analysis` in a folder, with the pictures that are there.

    Args:
        option: the option that names the folder, for error messages.

    Raises:
        UserError: there is no analysis in the folder, or a file is damaged.
    """
    advice = f'{option} takes a folder of --mode val --analyze'
    summary = read_json(folder / SUMMARY, SCHEMA, 'the summary of an analysis', advice=advice)
    return Analysis(summary, {name: _read_picture(folder / name) for name in PICTURES if (folder / name).exists()})


def _read_picture(path):
    try:
        with path.open('rb') as file:
            content = file.read(MOST_PICTURE_BYTES + 1)
    except OSError as error:
        raise UserError(f'{path}: cannot read this picture ({error.strerror})') from None
    if not content.startswith(PNG_START) or len(content) > MOST_PICTURE_BYTES:
        raise UserError(f'{path}: not a PNG file of at most {MOST_PICTURE_BYTES >> 20} MiB')
    return content
