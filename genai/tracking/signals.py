"""SIGINT and SIGTERM as a wish that work meets in its own time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_ask(ask: Callable[[int], None], *, asked: Callable[[], bool]) -> Iterator[None]:
    """Let a signal ask for the end until the block is left; one more ends the process at once. In another thread than
    the main one signals go where they went.

    Args:
        ask: gets the signal's number.
        asked: whether the end was asked for already, by a signal or otherwise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if asked():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        ask(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
