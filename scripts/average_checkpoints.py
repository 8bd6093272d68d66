#!/usr/bin/env python3
"""Average the parameters of networks, including running statistics: a uniform "model soup" (arXiv:2203.05482).

The average of networks that were fine-tuned from the same checkpoint, with other options or seeds, is often better than
each of them and costs no more than one.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('mxnet', 'numpy', 'jsonschema')

import argparse

from imagenet.checkpoints.averaging import average_networks
from imagenet.checkpoints.parameters import write_arrays
from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.files import check_new
from imagenet.common.options import ArgumentParser, check_utf8
from imagenet.common.output import continue_without_output
from imagenet.common.program import run_program


def main():
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'checkpoints',
        nargs='+',
        type=Path,
        metavar='FILE.params',
        help='two or more .params files of the same architecture and classes',
    )
    parser.add_argument(
        '-o', '--output', type=Path, required=True, metavar='FILE.params', help='the new parameter file, for --load'
    )
    args = parser.parse_args()
    continue_without_output()
    with one_line_errors():
        check_utf8(args)
        if args.output.suffix != '.params':
            raise UserError(f'--output {args.output}: must be a name that ends in .params')
        check_new([args.output])
        arrays, description = average_networks(args.checkpoints, announce=print)
        write_arrays(args.output, arrays, description)
        print(f'wrote {args.output}, the average of {len(args.checkpoints)} files')


if __name__ == '__main__':
    run_program(main)
