#!/usr/bin/env python
"""How well `--mode pred` decodes and computes at the same time: both together compared with each alone.

    benchmarks/predicting.py [--images 256] [--batch-size 32] [--rounds 3] [--load model-int8] [--engine openvino]

Makes a folder of JPEGs of 500x375 at quality 95 and classifies them with ResNet-50 at 224 px on the CPU. Alternates, in
one process with bound threads, between decoding all of them without a network, classifying decoded images, and
`prediction.classify` as the program calls it. The ratio is that of the last to the slower of the first two. Since both
use all cores, the limit is the speed at which an image takes the sum of its times for decoding and computing. An int8
network (`--load`, see `--mode calibrate`) leaves less time for decoding.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from data_loading import make_photograph

from imagenet.common.options import pick
from imagenet.inference.prediction import classify
from imagenet.input_pipeline.transforms import EvaluationOptions
from imagenet.launcher.worker_env import restart_with_bound_threads
from imagenet.runtime import distributed
from imagenet.runtime.devices import local_devices


def options(batch_size, load, engine):
    """Return the options that the program would have, from its own parser."""
    from train import parse_args, resolve_args

    network = ['--image-shape', '3,224,224', '--num-classes', '1000', '--batch-size', str(batch_size)]
    network += ['--engine', engine]
    loaded = ['--load', load] if load else ['--benchmark-iters', '1']
    args = parse_args(['--mode', 'val', '--device', 'cpu', '--data-backend', 'synthetic', *network, *loaded])
    return resolve_args(args)[0]


def write_photographs(folder, count):
    random = np.random.RandomState(0)
    for number in range(count):
        (folder / f'{number:05}.jpg').write_bytes(make_photograph(random))
    return sorted(folder.iterdir())


def images_per_second(function, count):
    start = time.perf_counter()
    function()
    return count / (time.perf_counter() - start)


class Instant:
    """An engine that costs nothing."""

    def start(self, images):
        return lambda: images[:, 0, 0, :2]


def measure(engine, paths, args):
    """Return images/s of decoding, of computing, and of both."""
    evaluation = pick(EvaluationOptions, args)
    ready = np.zeros((args.batch_size, 3, *args.image_shape[1:]), np.float32)

    def decode():
        both(Instant())

    def compute():
        for _ in range(0, len(paths), args.batch_size):
            engine.start(ready)()

    def both(engine=engine):
        for _ in classify(engine, paths, args.batch_size, evaluation):
            pass

    compute()
    return [images_per_second(function, len(paths)) for function in (decode, compute, both)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=256, help='images in the folder (default: 256)')
    parser.add_argument('--batch-size', type=int, default=32, help='images per batch (default: 32)')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each (default: 3)')
    parser.add_argument('--load', help='a checkpoint or an int8 network (default: random parameters)')
    parser.add_argument('--engine', default='mxnet', help='see runner (default: mxnet)')
    chosen = parser.parse_args()
    restart_with_bound_threads()
    from models import build_engine

    with tempfile.TemporaryDirectory() as folder:
        args = options(chosen.batch_size, chosen.load, chosen.engine)
        distributed.initialize(args.kv_store, args.device)
        cv2.setNumThreads(0)
        engine, _ = build_engine(args, local_devices(args.device, args.gpus))
        paths = write_photographs(Path(folder), chosen.images)
        ratios, reached = [], []
        for turn in range(chosen.rounds):
            decode, compute, both = measure(engine, paths, args)
            ratios.append(both / min(decode, compute))
            reached.append(both * (1 / decode + 1 / compute))
            print(
                f'round {turn + 1}: decoding {decode:.1f}, computing {compute:.1f}, both {both:.1f} images/s, '
                f'ratio {ratios[-1]:.3f}, of the limit {reached[-1]:.3f}',
                flush=True,
            )
    print(f'median ratio {statistics.median(ratios):.3f}, of the limit {statistics.median(reached):.3f}')


if __name__ == '__main__':
    main()
