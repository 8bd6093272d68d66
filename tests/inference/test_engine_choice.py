"""engine_choice.py: `--engine auto` finds the fastest engine in the time that it has."""

import time

import numpy as np
import pytest

from imagenet.common.errors import UserError
from imagenet.inference.engine_choice import choose_fastest, measure

IMAGES = np.zeros((2, 3, 4, 4), np.float32)


class Waiting:
    """An engine that waits for some seconds per batch and per image, and counts its images."""

    def __init__(self, per_batch=0.0, per_image=0.0):
        self._per_batch, self._per_image = per_batch, per_image
        self.sizes = []

    def start(self, images):
        self.sizes.append(len(images))
        return lambda: time.sleep(self._per_batch + self._per_image * len(images))


class Clock:
    """Shows a time that passes only while an engine waits, however busy the machine is."""

    def __init__(self):
        self.seconds = 0.0

    def sleep(self, seconds):
        self.seconds += seconds

    def perf_counter(self):
        return self.seconds


def test_fastest_for_these_batches():
    """One engine is the fastest for single images, the other one for batches of eight."""
    for size, expected in ((1, 'single'), (8, 'many')):
        engines = {'single': Waiting(0.001, 0.004), 'many': Waiting(0.02, 0.0)}
        found, line = choose_fastest(engines, IMAGES, size)
        assert found == expected
        assert line.startswith(f'--engine auto: {expected} (measured with batches of {size}: single ')
        assert all(engine.sizes[-1] == size for engine in engines.values())


@pytest.mark.parametrize('per_image', [0.001, 0.02, 0.3])
def test_time_is_limited(per_image, monkeypatch):
    clock = Clock()
    for name in ('sleep', 'perf_counter'):
        monkeypatch.setattr(time, name, getattr(clock, name))
    measure({name: Waiting(per_image=per_image) for name in 'abc'}, IMAGES, 256, most_seconds=1)
    # The first image prepares an engine, which is left out.
    assert 2 * per_image <= clock.seconds < 1 + per_image


def test_engine_that_disturbs_the_next_one():
    """The threads of an engine may wait actively for some time after a batch."""
    awake_until = [0.0]

    class Disturbing(Waiting):
        def start(self, images):
            wait = super().start(images)

            def disturb():
                wait()
                awake_until[0] = time.perf_counter() + 0.03

            return disturb

    class Disturbed(Waiting):
        def start(self, images):
            wait, is_slow = super().start(images), time.perf_counter() < awake_until[0]
            return lambda: time.sleep(0.02 * is_slow) or wait()

    engines = {'disturbing': Disturbing(0.01), 'disturbed': Disturbed(0.006)}
    assert choose_fastest(engines, IMAGES, 1)[0] == 'disturbed'


def test_batches_that_take_too_long_are_smaller():
    size, seconds, _ = measure({name: Waiting(per_image=0.01) for name in 'ab'}, IMAGES, 256, most_seconds=1)
    assert 2 <= size <= 25
    assert seconds['a'] == pytest.approx(0.01 * size, rel=0.5)


def test_no_time_at_all():
    engines = {'first': Waiting(0.4), 'second': Waiting(0.2)}
    found, line = choose_fastest(engines, IMAGES, 8, seconds_before=100)
    assert found == 'first'
    assert 'a single image takes too long' in line


def test_first_batch_of_an_engine_may_take_long():
    class Preparing(Waiting):
        def start(self, images):
            if not self.sizes:
                time.sleep(1.2)
            return super().start(images)

    engines = {'preparing': Preparing(0.01), 'ready': Waiting(0.002)}
    assert choose_fastest(engines, IMAGES, 1)[0] == 'ready'


def test_engine_that_fails():
    class Failing(Waiting):
        def start(self, images):
            raise UserError('--engine failing: fails')

    found, line = choose_fastest({'own': Waiting(0.01), 'failing': Failing()}, IMAGES, 1)
    assert found == 'own'
    assert line.endswith(' ms; --engine failing: fails)')
