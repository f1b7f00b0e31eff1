"""What ends a request early: the client is gone, or its time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from genai.log import get_logger

Reason = Literal["gone", "timeout"]

_LOGGER = get_logger(__name__)
_LOOKS_A_TIMEOUT = 8
_LONGEST_PAUSE_S = 1.0


class Leash:
    """Ends the work of the current task on a request: what was registered in `Request.gone` is called, then the task is
    cancelled.
    """

    __slots__ = ("_task", "callbacks", "deadline", "reason")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.deadline = float("inf")
        """time.monotonic() after which it is ended."""
        self.callbacks: list[Callable[[], None]] = []
        """`Request.gone`"""
        self.reason: Reason | None = None
        """Why it was ended."""

    def end(self, reason: Reason) -> None:
        """End it, unless it was ended or is over."""
        if self._task is None:
            return
        self.reason = reason
        task, self._task = self._task, None
        for callback in self.callbacks:
            try:
                callback()
            except Exception:
                _LOGGER.exception("a request could not be given up in good order")
        task.cancel()

    def client_gone(self) -> None:
        """End it because nobody is there to read the answer."""
        self.end("gone")

    def let_go(self) -> None:
        """The work is over."""
        self._task = None


class Deadlines:
    """Looks at the requests under way now and then, which is cheaper than a timer for each of them."""

    def __init__(self) -> None:
        self._leashes: set[Leash] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, leash: Leash) -> None:
        """From now on, until `forget`."""
        self._leashes.add(leash)
        if self._timer is None:
            self._plan()

    def forget(self, leash: Leash) -> None:
        """It is over."""
        self._leashes.discard(leash)

    def _plan(self) -> None:
        shortest = min((leash.deadline for leash in self._leashes), default=0.0) - time.monotonic()
        pause = min(_LONGEST_PAUSE_S, max(0.01, shortest / _LOOKS_A_TIMEOUT))
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        for leash in [leash for leash in self._leashes if now >= leash.deadline]:
            self._leashes.discard(leash)
            leash.end("timeout")
        if self._leashes:
            self._plan()
