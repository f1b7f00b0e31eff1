"""SIGINT and SIGTERM as a wish that work on an event loop meets; a second one ends the process at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from genai.errors import StoppedError
from genai.tracking.signals import signals_ask


class Stop:
    """Whether somebody wants the work to end; made on the event loop that does it."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._signal_number: int = signal.SIGTERM

    def ask(self, signal_number: int = signal.SIGTERM) -> None:
        """Want it to end, as if by this signal; to be called on the loop."""
        self._signal_number = signal_number
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether it was asked for."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Until it is asked for."""
        await self._asked.wait()

    def error(self, what: str) -> StoppedError:
        """What to raise once the work has ended.

        Args:
            what: was stopped.
        """
        fix = "start it again: it goes on where it was"
        return StoppedError(f"{what} was stopped", signal_number=self._signal_number, fix=fix)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A `Stop` that signals ask until the block is left; in another thread than the main one they go elsewhere.

    To be entered on an event loop.
    """
    stop = Stop()
    loop = asyncio.get_running_loop()

    def ask(number: int) -> None:
        loop.call_soon_threadsafe(stop.ask, number)

    with signals_ask(ask, asked=lambda: stop.asked):
        yield stop
