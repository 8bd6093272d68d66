"""Time limits of tests and waits. They only end what hangs, and are longer on a slow machine."""

import os
import time

from imagenet.runtime.compat import mx

# Includes the fixtures that a test is the first to use. The slowest test takes 3 minutes on two AVX2 cores.
SECONDS_OF_A_TEST = 1200
# The result of `_trial` on the fastest machine so far, which has AVX-512.
SECONDS_OF_THE_TRIAL = 2
# How many times slower this machine is, at least 1; pytest's workers inherit the variable.
SLOWNESS = 'SLOWNESS_OF_THIS_MACHINE'


def set_limit():
    """Measure this machine, and set the time limit of every test (pytest-timeout's) unless the user has set one."""
    if SLOWNESS not in os.environ:
        os.environ[SLOWNESS] = str(max(1, _trial() / SECONDS_OF_THE_TRIAL))
    os.environ.setdefault('PYTEST_TIMEOUT', str(round(generous(SECONDS_OF_A_TEST))))


def _trial():
    """Return how many seconds it takes to load MXNet and compute some convolutions."""
    started = time.monotonic()
    images, weights = mx.nd.ones((64, 64, 56, 56)), mx.nd.ones((64, 64, 3, 3))
    for _ in range(10):
        mx.nd.Convolution(images, weights, no_bias=True, kernel=(3, 3), num_filter=64).wait_to_read()
    return time.monotonic() - started


def generous(seconds):
    """Return a time limit, extended if the machine is slow."""
    return seconds * float(os.environ[SLOWNESS])


def wait_until(is_reached, process=None):
    """Wait until a condition holds. Fail after five minutes (more on a slow machine), or if a process ends first.

    Args:
        is_reached: a callable.
        process: a `subprocess.Popen` that must run until then.
    """
    give_up = time.monotonic() + generous(300)
    while not is_reached():
        assert process is None or process.poll() is None, f'ended too early, with exit code {process.returncode}'
        assert time.monotonic() < give_up, 'waited in vain'
        time.sleep(0.01)
