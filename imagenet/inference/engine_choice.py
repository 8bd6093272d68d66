"""`--engine auto`: measures the engines for a short time at the start, and takes the fastest."""

import math
import time

import numpy as np

from imagenet.common.errors import UserError
from imagenet.runtime import distributed

MOST_SECONDS = 1.25
# With the time to open the engines, so that a run starts at most three seconds later.
MOST_SECONDS_IN_ALL = 1.75
# How much longer a batch takes the first time.
PREPARATION = 1.5
LEAST_SECONDS = 0.5
# An engine computes several batches in a row: the first one is up to a half slower, because the engine before it has
# left its data in the caches, and threads that wait actively for a while.
LEAST_IN_A_ROW = 2
SECONDS_IN_A_ROW = 0.1


def choose_fastest(engines, images, batch_size, seconds_before=0.0):
    """Return the name of the fastest engine, the same on all ranks, and a line for the log.

    Args:
        engines: the engines by name; the first one is taken if there is no time to compare them.
        images: some images `(N, 3, H, W)`.
        batch_size: of the batches to come. If they take too long, smaller ones are measured.
        seconds_before: the time that it took to open the engines.
    """
    most_seconds = max(LEAST_SECONDS, min(MOST_SECONDS, MOST_SECONDS_IN_ALL - seconds_before))
    size, seconds, failures = measure(engines, images, batch_size, most_seconds)
    found = fastest_on_all_ranks({name: value / size for name, value in seconds.items()})
    if seconds:
        times = ', '.join(f'{name} {1000 * value:.1f} ms' for name, value in seconds.items())
        lines = [f'measured with batches of {size}: {times}', *failures]
        if found != min(seconds, key=seconds.get):
            lines.append('other processes have other engines or times')
    else:
        lines = [f'a single image takes too long to compare them in {most_seconds:.1f} s']
    found = found or next(iter(engines))
    return found, f'--engine auto: {found} ({"; ".join(lines)})'


def fastest_on_all_ranks(seconds):
    """Return the engine that takes the least time on the ranks together, the same on all of them.

    Args:
        seconds: the time per image by engine, as measured on this rank. Hosts may have other engines.

    Returns:
        The engine's name, or None if there is none that all ranks have measured.
    """
    by_rank = distributed.gather_json(seconds)
    common = [name for name in by_rank[0] if all(name in others for others in by_rank)]
    return min(common, key=lambda name: sum(others[name] for others in by_rank), default=None)


def measure(engines, images, batch_size, most_seconds):
    """Return the size of the measured batches, the shortest time for one by engine, and messages of those that fail.

    If there is no time, there is none for any engine. All take turns, so that a change of the machine's pace affects
    all of them.
    """
    first = next(iter(engines.values()))
    # The first call prepares the engine, which may take longer than all else.
    seconds_for(first, images[:1])
    end = time.perf_counter() + most_seconds
    single = seconds_for(first, images[:1])
    # A batch takes hardly more time per image than a single one, and the other engines about as much.
    size = min(batch_size, int((end - time.perf_counter()) / ((PREPARATION + LEAST_IN_A_ROW) * len(engines) * single)))
    if size < 1:
        return 1, {}, []
    batch = np.resize(images, (size, *images.shape[1:]))

    shortest, failures = {}, []
    for name, engine in engines.items():
        try:
            seconds_for(engine, batch)
            shortest[name] = math.inf
        except UserError as error:
            failures.append(str(error))
    while True:
        start = time.perf_counter()
        for name in shortest:
            shortest[name] = min(shortest[name], shortest_seconds_for(engines[name], batch))
        now = time.perf_counter()
        if now + (now - start) > end:
            return size, shortest, failures


def shortest_seconds_for(engine, batch):
    """Return the shortest time in which an engine computes a batch, of several in a row."""
    end, seconds = time.perf_counter() + SECONDS_IN_A_ROW, []
    while len(seconds) < LEAST_IN_A_ROW or time.perf_counter() < end:
        seconds.append(seconds_for(engine, batch))
    return min(seconds)


def seconds_for(engine, batch):
    """Return the time in which an engine computes a batch."""
    start = time.perf_counter()
    engine.start(batch)()
    return time.perf_counter() - start
