"""Shows how far a long step is."""

import sys
import time
from contextlib import contextmanager

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30


@contextmanager
def progress(total, done=0, unit='images'):
    """Provide a function to call after each image, or with a number of bytes.

    It moves a bar on a terminal, or prints an occasional line.
    """
    is_scaled = unit == 'bytes'
    if sys.stderr.isatty():
        bar = tqdm(total=total, initial=done, unit=f' {unit}', unit_scale=is_scaled, leave=False, dynamic_ncols=True)
        with bar:
            yield bar.update
    else:
        yield ProgressLines(total, done, unit, tqdm.format_sizeof if is_scaled else '{:.0f}'.format).update


class ProgressLines:
    def __init__(self, total, done, unit, in_words):
        self._total, self._done, self._done_before = total, done, done
        self._unit, self._in_words = unit, in_words
        self._began = self._printed = time.monotonic()

    def update(self, amount=1):
        self._done += amount
        now = time.monotonic()
        if now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            rate = (self._done - self._done_before) / (now - self._began)
            left = tqdm.format_interval((self._total - self._done) / rate)
            done, total, speed = map(self._in_words, (self._done, self._total, rate))
            print(f'{done} of {total} {self._unit}, {speed} {self._unit}/s, {left} left')
