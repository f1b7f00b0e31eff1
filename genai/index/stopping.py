"""SIGINT and SIGTERM as a wish that is met between two batches; a second one ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from genai.errors import StoppedError
from genai.tracking.signals import signals_ask


class Stop:
    """Whether somebody wants the work to end."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._signal_number: int = signal.SIGTERM

    def ask(self, signal_number: int = signal.SIGTERM) -> None:
        """Want it to end, as if by this signal."""
        self._signal_number = signal_number
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether it was asked for."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Pause, unless and until it is asked for; returns whether it was."""
        return self._asked.wait(seconds)

    def check(self) -> None:
        """Between two batches: end here when it was asked for.

        Raises:
            StoppedError: it was.
        """
        if self.asked:
            fix = "start it again: it goes on where it was"
            raise StoppedError("the sync was stopped", signal_number=self._signal_number, fix=fix)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A `Stop` that signals ask until the block is left; in another thread than the main one they go elsewhere."""
    stop = Stop()
    with signals_ask(stop.ask, asked=lambda: stop.asked):
        yield stop
