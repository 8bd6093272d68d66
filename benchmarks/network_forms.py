#!/usr/bin/env python
"""What the form of a network costs on this CPU: fused or separate BN-ReLU, NCHW or NHWC.

    benchmarks/network_forms.py [--batch-size 32] [--steps 8] [--rounds 3]

Trains ResNet-50 v1.5 at 224 px, float32, on random images, by turns in one run, each form in a process of its own with
the same threads, and prints images/s and the ratio to the separate NCHW network. The first steps are left out.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
WARMUP_STEPS = 2
CHANNELS_LAST = {f'{name}_layout': 'NHWC' for name in ('input', 'conv', 'batchnorm', 'pooling')}
FORMS = {
    'separate, NCHW': {},
    'fused, NCHW': {'fuse_bn_relu': 1},
    'separate, NHWC': CHANNELS_LAST,
    'fused, NHWC': {'fuse_bn_relu': 1, **CHANNELS_LAST},
}


def measure_here(form, batch_size, steps):
    """Images/s of one form, in this process."""
    sys.path.append(str(PROJECT))
    import models
    from compat import mx

    net = models.get_model(**FORMS[form])
    models.initialize(net, [mx.cpu()])
    net.hybridize(static_alloc=True, static_shape=True)
    criterion = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'momentum': 0.875}, kvstore=None)
    shape = (224, 224, 3) if net.input_layout == 'NHWC' else (3, 224, 224)
    images, labels = mx.nd.random.normal(shape=(batch_size, *shape)), mx.nd.zeros(batch_size)

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            with mx.autograd.record():
                loss = criterion(net(images), labels)
            loss.backward()
            trainer.step(batch_size)
        mx.nd.waitall()
        return time.perf_counter() - start

    run(WARMUP_STEPS)
    return batch_size * steps / run(steps)


def measure(form, args, environment):
    command = [sys.executable, __file__, '--form', form, '--batch-size', args.batch_size, '--steps', args.steps]
    return float(subprocess.check_output(list(map(str, command)), env=environment, text=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--steps', type=int, default=8, help='steps measured in each round (default: 8)')
    parser.add_argument('--rounds', type=int, default=3, help='turns of each form (default: 3)')
    parser.add_argument('--form', choices=tuple(FORMS), help='one turn of this form, in this process')
    args = parser.parse_args()
    if args.form:
        print(measure_here(args.form, args.batch_size, args.steps))
        return
    cores = len(os.sched_getaffinity(0))
    environment = {'OMP_NUM_THREADS': str(cores), 'OMP_PROC_BIND': 'true', **os.environ}
    speeds = {form: [] for form in FORMS}
    for _ in range(args.rounds):
        for form, measured in speeds.items():
            measured.append(measure(form, args, environment))
    baseline = statistics.median(next(iter(speeds.values())))
    print(f'images/s, median of {args.rounds}, batch {args.batch_size}, {cores} cores')
    for form, measured in speeds.items():
        speed = statistics.median(measured)
        print(f'{form:16} {speed:6.2f}  x {speed / baseline:.3f}  ({", ".join(f"{value:.2f}" for value in measured)})')


if __name__ == '__main__':
    main()
