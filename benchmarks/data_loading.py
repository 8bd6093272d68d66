#!/usr/bin/env python
"""How fast images are read: the package's backends, decoding alone, bare DALI, and PyTorch's DataLoader if installed.

    benchmarks/data_loading.py [--images 2000] [--threads 2] [--rounds 3] [--only fused,augment] [--torch-python PYTHON]

Makes JPEGs of 500x375 at quality 95 and reads them for training at 224 px. Alternates in one run between
`./runner --test-io` with every backend, OpenCV decoding with the same number of threads (the limit), DALI's own record
reader in a pipeline of the same operators, copied into MXNet arrays, and torchvision's RandomResizedCrop in a
DataLoader with the same number of workers. Then reads four times as many records, and prints how much memory each
backend used.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from bare_loop import PROJECT, bound_threads
from tabulate import tabulate

sys.path.append(str(PROJECT))
from data import INPUT_DEFAULTS
from imagenet.datasets.records import RecordFile, pack_image
from imagenet.input_pipeline.auto_augment import DEFAULT_LAYERS, DEFAULT_MAGNITUDE, AutoAugmentOptions, augment
from imagenet.runtime.compat import memory_of, mx

WIDTH, HEIGHT, QUALITY = 500, 375, 95
CLASSES = 10
# A run must be long compared with its startup.
RECORDS_PER_IMAGE = 4
BATCH_SIZE = 64
SIDE = 224
MEBIBYTE = 1 << 20
LAYERS, MAGNITUDE = 2, 9
RANDAUGMENT = ['--auto-augment', 'randaugment', '--randaugment-layers', LAYERS, '--randaugment-magnitude', MAGNITUDE]
READERS = {
    'dali-cpu, fused decoder': ['--data-backend', 'dali-cpu'],
    'dali-cpu, decode then crop': ['--data-backend', 'dali-cpu', '--dali-fuse-decoder', '0'],
    'dali-cpu, randaugment': ['--data-backend', 'dali-cpu', *RANDAUGMENT],
    'dali-cpu, autoaugment': ['--data-backend', 'dali-cpu', '--auto-augment', 'autoaugment'],
    'mxnet': ['--data-backend', 'mxnet'],
    'dali-cpu, validation': ['--data-backend', 'dali-cpu', '--test-io-mode', 'val'],
    'mxnet, validation': ['--data-backend', 'mxnet', '--test-io-mode', 'val'],
}
# Each with its --auto-augment.
BARE = {
    'bare DALI, fused decoder': 'none',
    'bare DALI, randaugment': 'randaugment',
    'bare DALI, autoaugment': 'autoaugment',
}
LIMIT, TORCH = 'decoding alone', 'PyTorch DataLoader'

# Runs in the interpreter that has torch. torchvision decodes with Pillow, as it does for most of its users.
TORCH_PROGRAM = """
import sys, time, torch, torchvision
from torchvision import transforms
folder, threads, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
data = torchvision.datasets.ImageFolder(folder, transforms.Compose(steps))
loader = torch.utils.data.DataLoader(data, batch_size, shuffle=True, num_workers=threads, drop_last=True)
start, images = time.perf_counter(), 0
for batch, _ in loader:
    images += len(batch)
print(images / (time.perf_counter() - start))
"""


def make_photograph(random):
    """Return a JPEG of about 75 kB with detail of all sizes, like a photograph."""
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)
    for size in (8, 16, 32, 64, 128):
        coarse = random.standard_normal((HEIGHT // size + 2, WIDTH // size + 2, 3)).astype(np.float32)
        image += size * cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX) + 6 * random.standard_normal(image.shape)
    encoded = cv2.imencode('.jpg', np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return encoded.tobytes()


def write_records(folder, photographs, count):
    """Write `train` and `val`, the same file under both names."""
    folder.mkdir()
    with (folder / 'train.rec').open('wb') as records, (folder / 'train.idx').open('w') as index:
        for key in range(count):
            index.write(f'{key}\t{records.tell()}\n')
            records.write(pack_image(key, float(key % CLASSES), photographs[key % len(photographs)]))
    for suffix in ('rec', 'idx'):
        os.link(folder / f'train.{suffix}', folder / f'val.{suffix}')
    (folder / 'classes.txt').write_text(''.join(f'class {index}\n' for index in range(CLASSES)))


def write_tree(folder, photographs):
    for index, photograph in enumerate(photographs):
        path = folder / f'class{index % CLASSES}' / f'{index}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph)


def measure_limit(folder, threads):
    """Return images/s of OpenCV decoding complete images, read from the record file."""
    records = RecordFile(folder / 'train.rec', folder / 'train.idx')
    cv2.setNumThreads(0)

    def decode(number):
        return cv2.imdecode(np.frombuffer(records.read(number).image, dtype=np.uint8), cv2.IMREAD_COLOR).shape

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, range(len(records))):
            pass
    return len(records) / (time.perf_counter() - start)


def measure_reader(folder, threads, options):
    """Return images/s of `./runner --test-io`, and the peak memory of its process in bytes."""
    with tempfile.TemporaryDirectory() as workspace:
        command = [PROJECT / 'runner', '--device', 'cpu', '--data-root', folder, '-b', BATCH_SIZE, '--test-io']
        command += ['--data-mxnet-threads', threads, '--dali-threads', threads, '--dali-validation-threads', threads]
        command = [str(part) for part in [*command, '--workspace', workspace, *options]]
        process = subprocess.Popen(command, env=bound_threads(), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f'failed: {" ".join(command)}')
        last_line = (Path(workspace) / 'dllogger_log.log').read_text().splitlines()[-1]
    (images_per_second,) = json.loads(last_line[len('DLLL ') :])['data'].values()
    return images_per_second, usage.ru_maxrss * 1024


def measure_bare(folder, threads, policy):
    command = [sys.executable, __file__, '--bare', policy, '--data', str(folder), '--threads', str(threads)]
    return float(subprocess.check_output(command, text=True))


def read_with_bare_dali(folder, threads, policy):
    """Return images/s of a DALI pipeline that fills MXNet arrays. As in `--test-io`, the time to build it counts."""
    from nvidia.dali import fn, pipeline_def, types

    layers, magnitude = (LAYERS, MAGNITUDE) if policy == 'randaugment' else (DEFAULT_LAYERS, DEFAULT_MAGNITUDE)
    options = AutoAugmentOptions(policy, layers, magnitude)

    @pipeline_def(
        batch_size=BATCH_SIZE, num_threads=threads, device_id=None, seed=1, enable_conditionals=policy != 'none'
    )
    def define():
        encoded, _ = fn.readers.mxnet(
            path=[str(folder / 'train.rec')], index_path=[str(folder / 'train.idx')], random_shuffle=True, name='reader'
        )
        images = fn.decoders.image_random_crop(encoded, device='cpu', output_type=types.RGB, random_area=(0.08, 1.0))
        images = augment(fn.resize(images, size=(SIDE, SIDE)), options, SIDE, SIDE)
        mirror = fn.random.coin_flip(probability=0.5)
        mean, std = INPUT_DEFAULTS['rgb_mean'], INPUT_DEFAULTS['rgb_std']
        return fn.crop_mirror_normalize(images, mirror=mirror, mean=list(mean), std=list(std), output_layout='CHW')

    start = time.perf_counter()
    pipeline = define()
    pipeline.build()
    steps = pipeline.epoch_size('reader') // BATCH_SIZE
    for _ in range(steps):
        (images,) = pipeline.run()
        array = mx.nd.empty((BATCH_SIZE, 3, SIDE, SIDE))
        array.wait_to_read()
        images.as_tensor().copy_to_external(memory_of(array))
    return steps * BATCH_SIZE / (time.perf_counter() - start)


def measure_torch(python, folder, threads):
    command = [python, '-c', TORCH_PROGRAM, str(folder), str(threads), str(BATCH_SIZE)]
    return float(subprocess.check_output(command, text=True))


def chosen(readers, text):
    """Return the (name, setting) of readers whose name contains one of the texts, which are separated by commas."""
    return [(name, setting) for name, setting in readers.items() if any(part in name for part in text.split(','))]


def measure_speed(args, records, tree):
    """Return images/s by reader, as a list with one value per round."""
    speeds = {}
    for turn in range(args.rounds):
        found = {LIMIT: measure_limit(records, args.threads)}
        for name, options in chosen(READERS, args.only):
            found[name], _ = measure_reader(records, args.threads, options)
        for name, policy in chosen(BARE, args.only):
            found[name] = measure_bare(records, args.threads, policy)
        if args.torch_python:
            found[TORCH] = measure_torch(args.torch_python, tree, args.threads)
        print(f'round {turn + 1}: ' + ', '.join(f'{name} {speed:.0f}' for name, speed in found.items()), flush=True)
        for name, speed in found.items():
            speeds.setdefault(name, []).append(speed)
    return speeds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--images', type=int, default=2000, help='number of different images; each is in four records (default: 2000)'
    )
    parser.add_argument('--threads', type=int, default=2, help='decoding threads (default: 2)')
    parser.add_argument('--rounds', type=int, default=3, help='measurements of each (default: 3)')
    parser.add_argument('--only', default='', help='measure only readers with one of these texts in their names')
    parser.add_argument('--bare', choices=tuple(BARE.values()), help='measure bare DALI once, in this process')
    parser.add_argument('--data', type=Path, help='the record files for --bare')
    this_python = sys.executable if importlib.util.find_spec('torch') else None
    parser.add_argument('--torch-python', default=this_python, help='an interpreter that has torch and torchvision')
    args = parser.parse_args()
    if args.bare:
        print(read_with_bare_dali(args.data, args.threads, args.bare))
        return
    with tempfile.TemporaryDirectory() as folder:
        records, more_records, tree = (Path(folder) / name for name in ('records', 'more', 'tree'))
        random = np.random.RandomState(0)
        photographs = [make_photograph(random) for _ in range(args.images)]
        print(f'{args.images} images of {np.mean([len(photograph) for photograph in photographs]):.0f} bytes')
        write_records(records, photographs, RECORDS_PER_IMAGE * args.images)
        write_records(more_records, photographs, 4 * RECORDS_PER_IMAGE * args.images)
        write_tree(tree, photographs)
        speeds = measure_speed(args, records, tree)
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        rows = [(name, f'{speed:.0f}', f'{speed / medians[LIMIT]:.2f}') for name, speed in medians.items()]
        print(tabulate(rows, headers=['reader', 'images/s', 'of the limit'], colalign=('left', 'right', 'right')))
        for name, options in chosen(READERS, args.only):
            few, many = (measure_reader(data, args.threads, options)[1] for data in (records, more_records))
            print(f'{name}: {few / MEBIBYTE:.0f} MiB, for four times as many records {many / MEBIBYTE:.0f} MiB')


if __name__ == '__main__':
    main()
