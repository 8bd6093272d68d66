"""Ending a run from outside without losing anything: SIGTERM, as clusters send it, and SIGUSR1."""

import ctypes
import signal
import threading
from contextlib import contextmanager

from imagenet.runtime import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# A cluster may send a signal to all processes at once, and a launcher hand it on as well.
SECONDS_OF_ONE_REQUEST = 0.5
SIG_DFL = 0


def _let_the_system_take_signals():
    """From now on a signal ends the process at once.

    Python gets to handle a signal only between two calls of MXNet's; the system needs no such moment. And only Python's
    main thread may ask Python for it.
    """
    for number in SIGNALS:
        ctypes.CDLL(None).signal(int(number), SIG_DFL)


class StopRequest:
    """Whether somebody has asked this run to save and end.

    Attributes:
        name: of the signal that came to this process, or None.
    """

    def __init__(self):
        self.name = None
        self._agreement = distributed.AnyRankFlag()

    @contextmanager
    def listening(self):
        """Takes signals in the block; a second one, half a second later, ends the process at once."""
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
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
        """Whether a signal came to any process; all of them must ask equally often, and get the same answer."""
        return self._agreement.any(self.name is not None)
