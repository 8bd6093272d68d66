"""`--engine auto`: measures the engines for a short time at the start, and takes the fastest."""

import math
import time

import numpy as np

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
    measured = measure(engines, images, batch_size, most_seconds)
    if measured is None:
        found, line = next(iter(engines)), f'a single image takes too long to compare them in {most_seconds:.1f} s'
    else:
        size, seconds = measured
        found = min(seconds, key=seconds.get)
        times = ', '.join(f'{name} {1000 * value:.1f} ms' for name, value in seconds.items())
        line = f'measured with batches of {size}: {times}'
    (found,) = distributed.broadcast_json([found])
    return found, f'--engine auto: {found} ({line})'


def measure(engines, images, batch_size, most_seconds):
    """Return the size of the measured batches, and the shortest time for one by engine; None if there is no time.

    All engines take turns, so that a change of the machine's pace affects all of them.
    """
    first = next(iter(engines.values()))
    # The first call prepares the engine, which may take longer than all else.
    seconds_for(first, images[:1])
    end = time.perf_counter() + most_seconds
    single = seconds_for(first, images[:1])
    # A batch takes hardly more time per image than a single one, and the other engines about as much.
    size = min(batch_size, int((end - time.perf_counter()) / ((PREPARATION + LEAST_IN_A_ROW) * len(engines) * single)))
    if size < 1:
        return None
    batch = np.resize(images, (size, *images.shape[1:]))

    for engine in engines.values():
        seconds_for(engine, batch)
    shortest = dict.fromkeys(engines, math.inf)
    while True:
        start = time.perf_counter()
        for name, engine in engines.items():
            shortest[name] = min(shortest[name], shortest_seconds_for(engine, batch))
        now = time.perf_counter()
        if now + (now - start) > end:
            return size, shortest


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
