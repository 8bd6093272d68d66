"""Ending a run from outside without losing anything: SIGTERM, as clusters send it, and SIGUSR1."""

import signal
from contextlib import contextmanager

import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether somebody has asked this run to save and end.

    Attributes:
        name: of the signal that came to this process, or None.
    """

    def __init__(self):
        self.name = None
        self._agreement = distributed.Agreement()

    @contextmanager
    def listening(self):
        """Takes signals in the block; the second one ends the process at once."""
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number, _):
        self.name = signal.Signals(number).name
        # Python gets to handle a signal only between two calls of MXNet's; the system needs no such moment.
        for following in SIGNALS:
            signal.signal(following, signal.SIG_DFL)

    def is_agreed(self):
        """Whether a signal came to any process; all of them must ask equally often, and get the same answer."""
        return self._agreement.any(self.name is not None)
