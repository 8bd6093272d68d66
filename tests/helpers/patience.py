"""How long a test waits: only to end what hangs, and longer on a slow machine."""

import os
import time

from imagenet.runtime.compat import mx

# Of one test with the fixtures that it is the first to use; the slowest takes 3 minutes on two AVX2 cores.
SECONDS_OF_A_TEST = 1200
# How many seconds `_trial` took on the fastest machine so far, with AVX-512.
SECONDS_OF_THE_TRIAL = 2
# How much slower than that this machine is; pytest's workers inherit it.
SLOWNESS = 'SLOWNESS_OF_THIS_MACHINE'


def set_limit():
    """Measure this machine, and give every test a limit (pytest-timeout's) unless the user has set one."""
    if SLOWNESS not in os.environ:
        os.environ[SLOWNESS] = str(max(1, _trial() / SECONDS_OF_THE_TRIAL))
    os.environ.setdefault('PYTEST_TIMEOUT', str(round(generous(SECONDS_OF_A_TEST))))


def _trial():
    """Return how many seconds some convolutions take, and loading MXNet."""
    started = time.monotonic()
    images, weights = mx.nd.ones((64, 64, 56, 56)), mx.nd.ones((64, 64, 3, 3))
    for _ in range(10):
        mx.nd.Convolution(images, weights, no_bias=True, kernel=(3, 3), num_filter=64).wait_to_read()
    return time.monotonic() - started


def generous(seconds):
    """Return the limit of a wait, longer on a slow machine."""
    return seconds * float(os.environ[SLOWNESS])


def wait_until(is_reached, process=None):
    """Return when a condition holds; fail after five minutes or more, or if a process has ended before.

    Args:
        is_reached: a callable.
        process: a `subprocess.Popen` that must run until then.
    """
    give_up = time.monotonic() + generous(300)
    while not is_reached():
        assert process is None or process.poll() is None, f'ended too early, with exit code {process.returncode}'
        assert time.monotonic() < give_up, 'waited in vain'
        time.sleep(0.01)
