#!/usr/bin/env python3
"""Save a picture of training images as the network will see them, with the names of their classes.

    scripts/show_batch.py --data-root DATA -o batch.png [augmentation options of train.py]

Use it before training to check the labels and the effect of the augmentation. If images are mixed, it shows the shares
of both labels.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('mxnet', 'cv2', 'PIL', 'matplotlib')

import numpy as np

from dali import add_dali_args
from data import (
    INPUT_DEFAULTS,
    add_augmentation_args,
    add_data_args,
    check_data_args,
    choose_backend,
    describe_dataset,
    open_data,
)
from imagenet.common.errors import one_line_errors
from imagenet.common.modes import Mode
from imagenet.common.options import ArgumentParser, check_utf8, integer, pick, with_changes, with_defaults
from imagenet.common.output import continue_without_output
from imagenet.common.program import run_program
from imagenet.datasets.class_names import data_folders, find_class_names
from imagenet.input_pipeline.auto_augment import add_auto_augment_args
from imagenet.input_pipeline.mxnet_backend import add_mxnet_data_args
from imagenet.reporting.figures import save_figure
from imagenet.reporting.image_grid import DOTS_PER_INCH, draw_grid
from imagenet.runtime import distributed
from imagenet.training.mixing import Mixing, MixingOptions, add_mixing_args, check_pairs


def parse_args():
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, help='folder of train.rec; --data-train overrides it')
    parser.add_argument('-o', '--output', type=Path, default=Path('batch.png'), help='the picture (default: batch.png)')
    parser.add_argument('--num-images', type=integer(1, 1000), default=24, help='number of images (default: 24)')
    parser.add_argument(
        '--epoch', type=integer(at_least=0), default=0, help='show the first images of this epoch, from 0 (default: 0)'
    )
    parser.add_argument('--seed', type=integer(at_least=0), default=0, help='the seed of the run (default: 0)')
    add_data_args(parser)
    add_augmentation_args(parser)
    add_auto_augment_args(parser)
    add_dali_args(parser)
    add_mxnet_data_args(parser)
    add_mixing_args(parser)
    # Options of other modules that the data code needs.
    parser.set_defaults(
        mode=Mode.TRAIN, device='cpu', gpus=(0,), dtype='float32', input_layout='NCHW', num_classes=None
    )
    return parser.parse_args()


def resolve_args(args):
    check_utf8(args)
    args = with_defaults(args, INPUT_DEFAULTS)
    if args.data_train is None and args.data_root is not None:
        args = with_changes(args, data_train=args.data_root / 'train.rec')
    changes, notes = choose_backend(args)
    args = with_changes(args, **changes)
    check_data_args(args)
    args = with_changes(args, **describe_dataset(args))
    args = with_changes(args, batch_size=min(args.num_images, args.num_examples))
    check_pairs(pick(MixingOptions, args), args.batch_size)
    return args, notes


def first_images(args):
    """Return the first batch of an epoch: images `(N, H, W, 3)` with values from 0 to 255, and their `Targets`."""
    mix = Mixing(pick(MixingOptions, args))
    with open_data(args, distributed) as (train, _):
        train.reset(args.epoch)
        (batch,) = next(iter(train))
        images, targets = mix(batch.data[0], batch.label[0], moment=(args.epoch, 0, 0, 0))
        images = images.asnumpy()
    images = images[:, :3].transpose(0, 2, 3, 1) * np.float32(args.rgb_std) + np.float32(args.rgb_mean)
    return np.clip(images.round(), 0, 255).astype(np.uint8), targets


def titles(targets, names):
    """Return the class name of each image; if it is mixed, the larger share and its class, and then the other ones."""
    labels = targets.labels.asnumpy().astype(int)
    if targets.partner_labels is None:
        return [names[label] for label in labels]
    partners, shares = targets.partner_labels.asnumpy().astype(int), targets.shares.asnumpy()
    return [_title([(share, own), (1 - share, other)], names) for own, other, share in zip(labels, partners, shares)]


def _title(parts, names):
    percents = {}
    for share, label in parts:
        percents[label] = percents.get(label, 0) + 100 * share
    largest_first = sorted(percents.items(), key=lambda item: -item[1])
    return '\n'.join(f'{percent:.0f} % {names[label]}' for label, percent in largest_first if percent >= 0.5)


def main():
    args = parse_args()
    continue_without_output()
    with one_line_errors():
        args, notes = resolve_args(args)
        images, targets = first_images(args)
        names = find_class_names(data_folders(args.data_train, args.data_val), args.num_classes)
        figure = draw_grid(images, titles(targets, names))
        save_figure(figure, args.output, '-o', DOTS_PER_INCH)
        print(f'{args.output}: {len(images)} images by --data-backend {args.data_backend}')
        # Last, because an error must be the only line on stderr.
        for note in notes:
            print(note, file=sys.stderr)


if __name__ == '__main__':
    run_program(main)
