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
from compat import mx
images, weights = mx.nd.ones((64, 64, 56, 56)), mx.nd.ones((64, 64, 3, 3))
for _ in range(10):
    mx.nd.Convolution(images, weights, no_bias=True, kernel=(3, 3), num_filter=64).wait_to_read()
"""
# Read by pytest-timeout, and inherited by pytest's workers.
LIMIT = 'PYTEST_TIMEOUT'


def set_limit():
    """Give every test its limit, scaled by what this machine does in a trial, unless the user has set one."""
    if LIMIT not in os.environ:
        started = time.monotonic()
        subprocess.run([sys.executable, '-c', TRIAL], cwd=Path(__file__).resolve().parents[1], check=True)
        slowness = max(1, (time.monotonic() - started) / SECONDS_OF_THE_TRIAL)
        os.environ[LIMIT] = str(round(SECONDS_OF_A_TEST * slowness))


def wait_until(is_reached, process=None):
    """Return when a condition holds; fail after a quarter of the test's limit, or if a process has ended before.

    Args:
        is_reached: a callable.
        process: a `subprocess.Popen` that has to run until then.
    """
    give_up = time.monotonic() + float(os.environ[LIMIT]) / 4
    while not is_reached():
        assert process is None or process.poll() is None, f'ended too early, with exit code {process.returncode}'
        assert time.monotonic() < give_up, 'waited in vain'
        time.sleep(0.01)
