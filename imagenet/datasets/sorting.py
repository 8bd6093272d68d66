"""Sorts more lines than memory holds."""

import heapq
from contextlib import ExitStack
from itertools import islice
from tempfile import TemporaryFile

# The lines of a sorted piece; 100 million lines are 500 pieces.
LINES_AT_ONCE = 200_000


def sorted_lines(lines, scratch):
    """Yield lines, which are bytes, in order.

    Args:
        scratch: the folder for temporary files, which hold the lines in sorted pieces.
    """
    lines = iter(lines)
    with ExitStack() as stack:
        pieces = []
        for piece in iter(lambda: sorted(islice(lines, LINES_AT_ONCE)), []):
            pieces.append(stack.enter_context(TemporaryFile(dir=scratch)))
            pieces[-1].writelines(piece)
            pieces[-1].seek(0)
        yield from heapq.merge(*pieces)
