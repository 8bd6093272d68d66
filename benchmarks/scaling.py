#!/usr/bin/env python3
"""Predicts the speed of many GPUs from that of one, and compares the model with published measurements.

    benchmarks/scaling.py --published                            the model compared with NVIDIA's measurements
    benchmarks/scaling.py --report run/report.json -b 192        from a run of one GPU (or its --images-per-second)

A step of n GPUs takes as long as a step of one, plus the part of the all-reduce that the backward pass does not hide.
All-reduce is a ring within each host and one between hosts (Patarasuk and Yuan, "Bandwidth optimal all-reduce
algorithms", 2009): n members each send 2 (n - 1) / n of the gradients' bytes, in 2 (n - 1) hops for each group of
gradients sent together.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.options import comma_separated
from imagenet.reporting.published import read_published

# ResNet-50's, from `models.py --summary`.
PARAMETERS = 25_557_032
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass
class Machine:
    """The costs of an all-reduce.

    Attributes:
        per_host: GPUs per host.
        bandwidth, latency: bytes/s between two GPUs of a host; seconds per hop, including the wait for slower GPUs.
        network_bandwidth, network_latency: the same between hosts.
        overlap: the share of the all-reduce that the backward pass hides.
        groups: the number of parts in which the gradients are sent.
    """

    per_host: int
    bandwidth: float
    latency: float
    network_bandwidth: float = 12.5e9
    network_latency: float = 5e-6
    overlap: float = 0.0
    groups: int = 16


# Machines by their names in published.json. Bandwidths are those that NCCL reaches over NVLink; latencies are fitted to
# the efficiencies of the published training in mixed precision, by least squares.
MACHINES = {
    'DGX-2 V100 32GB': Machine(per_host=16, bandwidth=130e9, latency=39e-6),
    'DGX A100 80GB': Machine(per_host=8, bandwidth=230e9, latency=15e-6),
}


def ring_seconds(members, num_bytes, bandwidth, latency, groups):
    """Return the seconds of an all-reduce over a ring."""
    hops = 2 * (members - 1)
    return hops / members * num_bytes / bandwidth + hops * latency * groups


def allreduce_seconds(count, num_bytes, machine):
    """Return the seconds of an all-reduce over `count` GPUs; every host but the last uses all of its GPUs."""
    within = min(count, machine.per_host)
    hosts = -(-count // machine.per_host)
    inside = ring_seconds(within, num_bytes, machine.bandwidth, machine.latency, machine.groups)
    between = ring_seconds(hosts, num_bytes, machine.network_bandwidth, machine.network_latency, machine.groups)
    return inside + between


def predict(counts, images_per_second, batch_size, num_bytes, machine):
    """Return [(GPUs, images/s, efficiency, exposed seconds of communication per step)].

    Args:
        images_per_second: of one GPU.
        batch_size: images per GPU and step.
        num_bytes: of all gradients.
    """
    step = batch_size / images_per_second
    rows = []
    for count in counts:
        exposed = (1 - machine.overlap) * allreduce_seconds(count, num_bytes, machine)
        efficiency = step / (step + exposed)
        rows.append((count, count * images_per_second * efficiency, efficiency, exposed))
    return rows


def print_table(title, rows, published):
    print(f'{title}\n{"GPUs":>5} {"images/s":>10} {"efficiency":>10} {"exposed":>9}   published')
    for count, speed, efficiency, exposed in rows:
        line = f'{count:5} {speed:10.0f} {efficiency:10.3f} {1000 * exposed:6.2f} ms'
        if count in published:
            measured = published[count] / published[1] / count
            line += f'   {published[count]:8.0f} {measured:.3f}, {100 * (efficiency - measured):+.1f} points'
        print(line)


def published_training(name):
    """Return a machine's batch size per GPU, and images/s by number of GPUs, in mixed precision."""
    runs = [run for run in read_published() if (run.machine, run.mode, run.precision) == (name, 'train', 'mixed')]
    return runs[0].batch_size, {run.ngpus: run.metrics['train.total_ips'] for run in runs}


def print_published(counts):
    for name, machine in MACHINES.items():
        batch_size, published = published_training(name)
        rows = predict(counts, published[1], batch_size, 2 * PARAMETERS, machine)
        print_table(f'{name}, mixed precision, batch size {batch_size} per GPU', rows, published)


def measured_speed(path):
    """Return images/s of the last epoch of a report.

    Raises:
        UserError: it contains none, or the run used several GPUs.
    """
    try:
        report = json.loads(Path(path).read_text(encoding='utf-8'))
        speed = report['metrics']['train.total_ips'][-1]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f'--report {path}: cannot read a training speed ({error})') from None
    if report['ngpus'] != 1:
        raise UserError(f'--report {path}: the run of {report["ngpus"]} GPUs; use a run on one GPU')
    return speed


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument('--published', action='store_true', help="compare the model with NVIDIA's measurements")
    start.add_argument('--report', help='report.json of a training run on one GPU')
    start.add_argument('--images-per-second', type=float, help='speed of one GPU')
    parser.add_argument('-n', '--ngpus', type=comma_separated(int), default=COUNTS, help='(default: 1, 2, 4 to 1024)')
    parser.add_argument('-b', '--batch-size', type=int, default=192, help='images per GPU and step (default: 192)')
    parser.add_argument(
        '--gradient-bytes', type=float, default=2 * PARAMETERS, help="total (default: ResNet-50's in float16)"
    )
    parser.add_argument('--per-host', type=int, default=8, help='GPUs per host (default: 8)')
    parser.add_argument('--bandwidth', type=float, default=230, help='GB/s between GPUs of a host (default: 230)')
    parser.add_argument('--latency', type=float, default=15, help='microseconds per hop (default: 15)')
    parser.add_argument('--network-bandwidth', type=float, default=12.5, help='GB/s between hosts (default: 12.5)')
    parser.add_argument('--network-latency', type=float, default=5, help='microseconds between hosts (default: 5)')
    parser.add_argument('--overlap', type=float, default=0, help='share that the backward pass hides (default: 0)')
    return parser.parse_args()


def main():
    with one_line_errors():
        args = parse_args()
        if args.published:
            print_published(args.ngpus)
            return
        speed = args.images_per_second or measured_speed(args.report)
        machine = Machine(args.per_host, args.bandwidth * 1e9, args.latency * 1e-6)
        machine = replace(
            machine,
            network_bandwidth=args.network_bandwidth * 1e9,
            network_latency=args.network_latency * 1e-6,
            overlap=args.overlap,
        )
        rows = predict(args.ngpus, speed, args.batch_size, args.gradient_bytes, machine)
        print_table(f'from {speed:.1f} images/s of one GPU, batch size {args.batch_size}', rows, {})


if __name__ == '__main__':
    main()
