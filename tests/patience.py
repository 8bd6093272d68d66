"""How long a test waits: only to end what hangs, and longer on a slow machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

# Of one test with the fixtures that it is the first to use; the slowest takes 3 minutes on two AVX2 cores.
SECONDS_OF_A_TEST = 1200
# How many seconds the trial takes on two cores with AVX-512.
SECONDS_OF_THE_TRIAL = 3
TRIAL = """
from imagenet.runtime.compat import mx
images, weights = mx.nd.ones((64, 64, 56, 56)), mx.nd.ones((64, 64, 3, 3))
for _ in range(10):
    mx.nd.Convolution(images, weights, no_bias=True, kernel=(3, 3), num_filter=64).wait_to_read()
"""
# How much slower than that this machine is; pytest's workers inherit it.
SLOWNESS = 'SLOWNESS_OF_THIS_MACHINE'


def set_limit():
    """Measure this machine, and give every test a limit (pytest-timeout's) unless the user has set one."""
    if SLOWNESS not in os.environ:
        started = time.monotonic()
        subprocess.run([sys.executable, '-c', TRIAL], cwd=Path(__file__).resolve().parents[1], check=True)
        os.environ[SLOWNESS] = str(max(1, (time.monotonic() - started) / SECONDS_OF_THE_TRIAL))
    os.environ.setdefault('PYTEST_TIMEOUT', str(round(generous(SECONDS_OF_A_TEST))))


def generous(seconds):
    """Return the limit of a wait, longer on a slow machine."""
    return seconds * float(os.environ[SLOWNESS])


def wait_until(is_reached, process=None):
    """Return when a condition holds; fail after five minutes or more, or if a process has ended before.

    Args:
        is_reached: a callable.
        process: a `subprocess.Popen` that has to run until then.
    """
    give_up = time.monotonic() + generous(300)
    while not is_reached():
        assert process is None or process.poll() is None, f'ended too early, with exit code {process.returncode}'
        assert time.monotonic() < give_up, 'waited in vain'
        time.sleep(0.01)
