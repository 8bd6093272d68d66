#!/usr/bin/env python3
"""Save a picture of the mistakes that a network is most certain of, and print its accuracy for each class.

    ./runner --load model_best.params --mode pred --data-pred tree/val -o found.csv
    scripts/show_mistakes.py found.csv -o mistakes.png

The name of an image's folder is its class.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('numpy', 'cv2', 'PIL', 'matplotlib', 'tabulate')

import csv
from collections import Counter, namedtuple

from tabulate import tabulate

from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.options import ArgumentParser, check_utf8, integer
from imagenet.common.output import continue_without_output
from imagenet.common.program import run_program
from imagenet.datasets.decoding import RefusedImageError, decode_image
from imagenet.reporting.figures import save_figure
from imagenet.reporting.image_grid import DOTS_PER_INCH, center_square, draw_grid

COLUMNS = ('file', 'error', 'class_1', 'probability_1')

# What the network says of an image, with which probability, and what is right.
Answer = namedtuple('Answer', 'path said probability right')


def parse_args():
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results', type=Path, help='the .csv that --mode pred wrote for a folder of class folders')
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('mistakes.png'), help='the picture (default: mistakes.png)'
    )
    parser.add_argument('--num-images', type=integer(1, 1000), default=24, help='number of images (default: 24)')
    return parser.parse_args()


def read_answers(path):
    """Return an `Answer` for each image of a file of results.

    Raises:
        UserError: the file cannot be read, is no such file, or the folders' names are not those of the classes.
    """
    try:
        with path.open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: cannot read this file ({error})') from None
    if not rows or any(row.get(column) is None for row in rows for column in COLUMNS):
        raise UserError(f'{path}: not the results of --mode pred for a folder; write them with -o {path}')
    answers = [
        Answer(Path(row['file']), row['class_1'], _probability(row, path), Path(row['file']).parent.name)
        for row in rows
        if not row['error']
    ]
    classes = {answer.said for answer in answers}
    if not any(answer.right in classes for answer in answers):
        raise UserError(f'{path}: no folder of an image has the name of a class, such as {min(classes, default="cat")}')
    return answers


def _probability(row, path):
    try:
        return float(row['probability_1'])
    except ValueError:
        raise UserError(f'{path}: {row["probability_1"]!r} is no probability') from None


def read_square(path):
    """Return the center of an image; see `center_square`.

    Raises:
        UserError: it cannot be read.
    """
    try:
        image = decode_image(path.read_bytes())
    except (OSError, RefusedImageError) as error:
        raise UserError(f'{path}: cannot read this image ({error})') from None
    return center_square(image)


def accuracy_table(answers):
    """Return the accuracy of each class, the worst first, and of all."""
    counts = Counter(answer.right for answer in answers)
    right = Counter(answer.right for answer in answers if answer.said == answer.right)
    confused = {name: Counter(a.said for a in answers if a.right == name and a.said != name) for name in counts}
    rows = [
        [name, counts[name], f'{right[name] / counts[name]:.3f}', *(confused[name].most_common(1) or [('', '')])[0]]
        for name in sorted(counts, key=lambda name: right[name] / counts[name])
    ]
    rows.append(['all', len(answers), f'{sum(right.values()) / len(answers):.3f}', '', ''])
    return tabulate(rows, ['class', 'images', 'top-1', 'most often taken for', 'times'], disable_numparse=True)


def main():
    args = parse_args()
    continue_without_output()
    with one_line_errors():
        check_utf8(args)
        answers = read_answers(args.results)
        print(accuracy_table(answers))
        mistakes = [answer for answer in answers if answer.said != answer.right]
        if not mistakes:
            print('no mistakes: there is nothing to draw')
            return
        shown = sorted(mistakes, key=lambda answer: -answer.probability)[: args.num_images]
        titles = [f'{answer.right}\n{answer.probability:.0%} {answer.said}' for answer in shown]
        save_figure(draw_grid([read_square(answer.path) for answer in shown], titles), args.output, '-o', DOTS_PER_INCH)
        print(f'{args.output}: {len(shown)} of {len(mistakes)} mistakes; below what is right, what the network says')


if __name__ == '__main__':
    run_program(main)
