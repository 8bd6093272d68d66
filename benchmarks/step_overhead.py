#!/usr/bin/env python
"""What the training loop costs: `./runner` beside a bare MXNet loop with the same blocks, threads and batch.

    benchmarks/step_overhead.py [--batch-size 32] [--steps 20] [--rounds 3]

Trains ResNet-50 v1.5 at 224 px on synthetic data, by turns in one run, each in a process of its own, and prints
images/s of both and their ratio. The first steps of each are left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
WARMUP_STEPS = 3


def bare_loop(batch_size, steps):
    """Images/s of the least that a training loop can do: forward, backward, update; wait at the end."""
    sys.path.append(str(PROJECT))
    import models
    from compat import mx

    net = models.get_model(50, 1000, fuse_bn_relu=1)
    models.initialize(net, [mx.cpu()])
    net.hybridize(static_alloc=True, static_shape=True)
    criterion = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    criterion.hybridize(static_alloc=True, static_shape=True)
    settings = {'learning_rate': 0.01, 'momentum': 0.875, 'wd': 1 / 32768}
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', settings, kvstore=None)
    images, labels = mx.nd.random.normal(shape=(batch_size, 3, 224, 224)), mx.nd.zeros(batch_size)

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


def measure_bare_loop(args, environment):
    command = [sys.executable, __file__, '--bare', '--batch-size', args.batch_size, '--steps', args.steps]
    output = subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True, text=True).stdout
    return float(output)


def measure_runner(args, environment):
    """Images/s of the second epoch, so that the first, as long as the warm-up of the bare loop, is left out."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', '--mode', 'train', '--device', 'cpu', '--data-backend', 'synthetic']
        command += ['-b', args.batch_size, '-e', 2, '--num-examples', args.batch_size * args.steps]
        command += ['--save-frequency', 0, '--workspace', workspace]
        subprocess.run(list(map(str, command)), env=environment, check=True, stdout=subprocess.DEVNULL)
        report = json.loads((Path(workspace) / 'report.json').read_text())
        return report['metrics']['train.total_ips'][1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--steps', type=int, default=20, help='steps measured in each round (default: 20)')
    parser.add_argument('--rounds', type=int, default=3, help='turns of each (default: 3)')
    parser.add_argument('--bare', action='store_true', help='one turn of the bare loop, in this process')
    args = parser.parse_args()
    if args.bare:
        print(bare_loop(args.batch_size, args.steps))
        return
    cores = len(os.sched_getaffinity(0))
    environment = {'OMP_NUM_THREADS': str(cores), 'OMP_PROC_BIND': 'true', **os.environ}
    rounds = []
    for turn in range(args.rounds):
        bare, runner = measure_bare_loop(args, environment), measure_runner(args, environment)
        rounds.append((bare, runner))
        print(f'round {turn + 1}: bare loop {bare:.2f}, runner {runner:.2f} images/s, ratio {runner / bare:.3f}')
    bare, runner = (statistics.median(speeds) for speeds in zip(*rounds))
    print(f'median: bare loop {bare:.2f}, runner {runner:.2f} images/s, ratio {runner / bare:.3f} ({cores} cores)')


if __name__ == '__main__':
    main()
