#!/usr/bin/env python
"""The cost of benchmark.py: images/s of runs that it starts, compared with the same runs without it.

    benchmarks/sweep_overhead.py [--rounds 6]

Runs inference of ResNet-50 at 224 px on synthetic data on the CPU; the first pass of each run does not count. The order
of the two changes every round, since a machine's speed may depend on what ran before. If the machine is too noisy to
show the difference, there is a second measure: the share of the cores' time that benchmark.py itself used during the
run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from bare_loop import PROJECT

from imagenet.launcher.cores import usable_cores

BATCH_SIZE, STEPS = 16, 20
SECONDS_BETWEEN_LOOKS = 0.2
OPTIONS = ['--mode', 'val', '--device', 'cpu', '--data-backend', 'synthetic']


def measure_alone(folder):
    command = [PROJECT / 'runner', '-n', 1, '-b', BATCH_SIZE, '-e', 2, '--benchmark-iters', STEPS, *OPTIONS]
    with start([*command, '--workspace', folder]) as process:
        assert process.wait() == 0
    return json.loads((folder / 'report.json').read_text())['metrics']['val.total_ips'][1]


def measure_in_a_sweep(folder):
    """Return images/s, and the share of the cores' time that benchmark.py itself used."""
    command = [sys.executable, PROJECT / 'benchmark.py', '-b', BATCH_SIZE, '-i', STEPS, '-e', 1, '-w', 1, *OPTIONS]
    with start([*command, '-o', folder / 'sweep.json']) as process:
        used = own_share(psutil.Process(process.pid))
    speed = json.loads((folder / 'sweep.json').read_text())['metrics']['1'][str(BATCH_SIZE)]['val.total_ips']
    return speed, used


def own_share(process):
    """Return the share of all cores' time that a process itself used while its `train.py` was running."""
    moments = []
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if any('train.py' in ' '.join(child.cmdline()) for child in process.children()):
            times = process.cpu_times()
            moments.append((time.perf_counter(), times.user + times.system))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    (begin, used_before), (end, used) = moments[0], moments[-1]
    return (used - used_before) / (end - begin) / len(usable_cores())


def start(command):
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=6, help='measurements of each (default: 6)')
    args = parser.parse_args()
    ratios, shares = [], []
    for turn in range(args.rounds):
        order = (measure_alone, measure_in_a_sweep)[:: 1 if turn % 2 == 0 else -1]
        with tempfile.TemporaryDirectory() as folder:
            found = {measure: measure(Path(folder)) for measure in order}
        alone, (swept, share) = found[measure_alone], found[measure_in_a_sweep]
        ratios.append(swept / alone)
        shares.append(share)
        print(
            f'round {turn + 1}: alone {alone:.2f}, in a sweep {swept:.2f} images/s, ratio {ratios[-1]:.3f}; '
            f'benchmark.py used {100 * share:.2f} % of the cores',
            flush=True,
        )
    print(f'median ratio {statistics.median(ratios):.3f}, largest share of the cores {100 * max(shares):.2f} %')


if __name__ == '__main__':
    main()
