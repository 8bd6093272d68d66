#!/usr/bin/env python
"""The cost of saving: the time of a checkpoint of ResNet-50, how long training waits for it, and memory over epochs.

    benchmarks/checkpoints.py [--rounds 5] [--epochs 20]

Saves parameters, momentum and averaged parameters of ResNet-50 between training steps, and prints how long the call
takes and when everything is on the disk. Then trains a small network for some epochs, with a checkpoint after each, and
prints its peak memory in each epoch.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from argparse import Namespace
from pathlib import Path

from bare_loop import PROJECT

from imagenet.common.options import pick
from imagenet.launcher.worker_env import restart_with_bound_threads

BATCH_SIZE = 4
SETTINGS = {
    'optimizer': 'sgd',
    'lr': 0.1,
    'mom': 0.875,
    'optimizer_eps': None,
    'mean_square_decay': None,
    'mean_square_start': None,
    'wd': 1 / 32768,
    'wd_exclude': ('batchnorm', 'bias'),
    'ema_warmup': 'tensorflow',
    'dtype': 'float32',
    'grad_accum_steps': 1,
    'grad_clip_norm': None,
    'drop_connect': 0,
    'dropout': 0,
    'amp': False,
    'freeze': 'none',
    'lr_mult_features': 1,
    'no_metrics': False,
    'seed': 0,
    'num_classes': 1000,
    'model_prefix': 'model',
    'save_frequency': -1,
}


def measure_saves(rounds, ema_decay):
    """Yield (seconds of the call, seconds until everything is written, megabytes) for each save."""
    import models
    from imagenet.checkpoints.manifest import TrainingProgress
    from imagenet.checkpoints.saver import CheckpointSaver, SaverOptions
    from imagenet.runtime.compat import mx
    from imagenet.training.losses import CrossEntropy, Targets
    from imagenet.training.optimizer import OptimizerOptions, make_optimizer
    from imagenet.training.step import StepOptions, TrainingStep
    from imagenet.training.transfer import TransferOptions

    with tempfile.TemporaryDirectory() as folder:
        args = Namespace(**SETTINGS, batch_size=BATCH_SIZE, ema_decay=ema_decay, workspace=Path(folder))
        net = models.get_model(fuse_bn_relu=1)
        models.initialize(net, [mx.cpu()])
        net.hybridize(static_alloc=True, static_shape=True)
        optimizer = make_optimizer(pick(OptimizerOptions, args))
        loss, mix = CrossEntropy(smoothing=0.1), lambda images, labels, moment: (images, Targets(labels))
        options, transfer = pick(StepOptions, args), pick(TransferOptions, args)
        step = TrainingStep(net, [mx.cpu()], optimizer, options, transfer, loss, mix)
        checkpoints = CheckpointSaver(pick(SaverOptions, args), {}, announce=lambda line: None)
        batch = mx.io.DataBatch([mx.nd.zeros((BATCH_SIZE, 3, 224, 224))], [mx.nd.zeros(BATCH_SIZE)], pad=0)
        for turn in range(rounds):
            step([batch], 0.01, epoch=turn, iteration=0)
            mx.nd.waitall()
            started = time.perf_counter()
            checkpoints.save(net, step, TrainingProgress(seed=0, options={}, epoch=turn))
            called = time.perf_counter()
            checkpoints.wait()
            written = time.perf_counter()
            size = sum(path.stat().st_size for path in Path(folder).glob('*.params')) / 1e6
            yield called - started, written - started, size


def print_saves(rounds):
    for ema_decay in (None, 0.999):
        call, whole, size = (statistics.median(values) for values in zip(*measure_saves(rounds, ema_decay)))
        parts = 'parameters and momentum' if ema_decay is None else 'the same and averaged parameters'
        print(f'{parts}, {size:.0f} MB: training waits {call:.3f} s, written after {whole:.2f} s')


def peak_since_last_asked(pid):
    """Return the peak resident memory of a process since the previous call for it, in MiB."""
    process = Path('/proc') / str(pid)
    peak = next(line for line in (process / 'status').read_text().splitlines() if line.startswith('VmHWM:'))
    # See proc(5): 5 resets the peak to the current resident memory.
    (process / 'clear_refs').write_text('5')
    return int(peak.split()[1]) / 1024


def print_memory(data, epochs):
    """Print the peak memory of a run in each epoch."""
    options = '--image-shape 3,32,32 --data-val-resize 32 --num-layers 18 -b 64 --warmup-epochs 1 --ema-decay 0.9'
    with tempfile.TemporaryDirectory() as folder:
        command = [PROJECT / 'runner', '--device', 'cpu', '--data-root', data, '-e', epochs, *options.split()]
        command = [str(part) for part in [*command, '--mixup', '0.2', '--workspace', folder]]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        print('peak MiB in each epoch:', end='', flush=True)
        peaks = []
        for line in run.stdout:
            if line.startswith('epoch ') and '| train' in line:
                peaks.append(peak_since_last_asked(run.pid))
                print(f' {peaks[-1]:.0f}', end='', flush=True)
    middle = len(peaks) // 2
    growth = max(peaks[middle:]) / max(peaks[:middle]) - 1
    print(f'\npeak memory of the second half of the run compared with the first: {100 * growth:+.1f} %')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5, help='number of saves to measure; may be 0 (default: 5)')
    parser.add_argument('--epochs', type=int, default=20, help='epochs of the small run (default: 20)')
    parser.add_argument('--data', type=Path, default=PROJECT / 'demo' / 'digits', help='data to train on')
    args = parser.parse_args()
    restart_with_bound_threads()
    if args.rounds:
        print_saves(args.rounds)
    if args.data.is_dir():
        print_memory(args.data, args.epochs)


if __name__ == '__main__':
    main()
