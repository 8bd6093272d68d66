"""`--engine auto`: measures the engines for a short time at the start, and takes the fastest."""

import time

import numpy as np

from imagenet.runtime import distributed

MOST_SECONDS = 2
# With the time to open the engines, so that a run starts at most three seconds later.
MOST_SECONDS_IN_ALL = 2.2
LEAST_SECONDS = 0.5


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
    end = time.perf_counter() + most_seconds

    def time_left():
        return end - time.perf_counter()

    def take_turns(size):
        """Return the seconds for a batch by engine; None if the time is up."""
        batch, seconds = np.resize(images, (size, *images.shape[1:])), {}
        for name, engine in engines.items():
            if time_left() < 0:
                return None
            start = time.perf_counter()
            engine.start(batch)()
            seconds[name] = time.perf_counter() - start
        return seconds

    # The first turns of each size prepare the engines for it.
    single = take_turns(1) and take_turns(1)
    if single is None:
        return None
    # A batch takes no more time per image than a single one.
    size = max(1, min(batch_size, int(time_left() / (2 * sum(single.values())))))
    turns, seconds = [], take_turns(size)
    while seconds is not None and sum(seconds.values()) < time_left():
        seconds = take_turns(size)
        if seconds is not None:
            turns.append(seconds)
    if not turns:
        return 1, single
    return size, {name: min(turn[name] for turn in turns) for name in engines}
