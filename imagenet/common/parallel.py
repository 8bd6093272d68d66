"""A parallel map over threads that keeps the order and uses little memory."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

ITEMS_PER_THREAD = 32


def map_in_order(function, items, num_threads, most_ahead=0, initializer=None):
    """Yield the results in the order of the items, of which only a few are in progress or waiting at any time.

    Args:
        most_ahead: allow at least this many items in progress or waiting, for a caller that takes many results at once.
        initializer: a function that each thread calls first.
    """
    at_once = max(ITEMS_PER_THREAD * num_threads, most_ahead)
    with ThreadPoolExecutor(num_threads, initializer=initializer) as pool:
        futures = deque()
        try:
            for item in items:
                futures.append(pool.submit(function, item))
                if len(futures) == at_once:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()
