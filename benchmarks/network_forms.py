#!/usr/bin/env python
"""The cost of a network's form on this CPU: fused or separate BN-ReLU, NCHW or NHWC.

    benchmarks/network_forms.py [--batch-size 32] [--steps 8] [--rounds 3]

Trains ResNet-50 v1.5 at 224 px in float32 on random images. Alternates between the forms in one run, each in a separate
process with the same threads, and prints images/s and the ratio to the separate NCHW network. The first steps do not
count.
"""

import argparse
import statistics
import sys

from bare_loop import bare_loop, output_of

CHANNELS_LAST = {f'{name}_layout': 'NHWC' for name in ('input', 'conv', 'batchnorm', 'pooling')}
FORMS = {
    'separate, NCHW': {},
    'fused, NCHW': {'fuse_bn_relu': 1},
    'separate, NHWC': CHANNELS_LAST,
    'fused, NHWC': {'fuse_bn_relu': 1, **CHANNELS_LAST},
}


def measure(form, args):
    command = (sys.executable, __file__, '--form', form, '--batch-size', args.batch_size, '--steps', args.steps)
    return float(output_of(*command))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--steps', type=int, default=8, help='steps measured in each round (default: 8)')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each form (default: 3)')
    parser.add_argument('--form', choices=tuple(FORMS), help='measure this form once, in this process')
    args = parser.parse_args()
    if args.form:
        print(bare_loop(args.batch_size, args.steps, **FORMS[args.form]))
        return
    speeds = {form: [] for form in FORMS}
    for _ in range(args.rounds):
        for form, measured in speeds.items():
            measured.append(measure(form, args))
    baseline = statistics.median(next(iter(speeds.values())))
    print(f'images/s, median of {args.rounds}, batch {args.batch_size}')
    for form, measured in speeds.items():
        speed = statistics.median(measured)
        print(f'{form:16} {speed:6.2f}  x {speed / baseline:.3f}  ({", ".join(f"{value:.2f}" for value in measured)})')


if __name__ == '__main__':
    main()
