"""Stopping a run from outside without losing anything: SIGTERM or SIGUSR1 from clusters, SIGHUP from a terminal."""

import ctypes
import signal
import threading
from contextlib import contextmanager

from imagenet.runtime import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# A terminal that closes may send SIGHUP several times, which is not impatience.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Signals within this time are one request: a cluster may signal all processes, and the launcher may forward it as well.
SECONDS_OF_ONE_REQUEST = 0.5
SIG_DFL = 0


def _let_the_system_take_signals():
    """Restore the system's default action, so that the next signal ends the process at once.

    A Python handler would run only between two calls of MXNet; the system's action is immediate. The C function is
    needed because Python allows `signal.signal` only in the main thread.
    """
    for number in ENDING_SIGNALS:
        ctypes.CDLL(None).signal(int(number), SIG_DFL)


class StopRequest:
    """A request to save and end this run, made by a signal to any of its processes.

    Attributes:
        name: name of the signal that this process has received, or None.
    """

    def __init__(self):
        self.name = None
        self._agreement = distributed.AnyRankFlag()

    @contextmanager
    def listening(self):
        """Handle signals within the block; a second one, at least half a second later, ends the process at once.

        Signals that are ignored stay ignored: SIGHUP under `nohup`.
        """
        handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._take) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number, _):
        self.name = signal.Signals(number).name
        for following in SIGNALS:
            signal.signal(following, signal.SIG_IGN)
        threading.Timer(SECONDS_OF_ONE_REQUEST, _let_the_system_take_signals).start()

    def is_agreed(self):
        """Return whether any process has received a signal, the same answer on all. All must call it equally often."""
        return self._agreement.any(self.name is not None)
