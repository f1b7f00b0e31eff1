"""How many requests may be under way at once: fewer for a while after the server said that it is too many."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CUT = 0.25
"""What is left of the number each time, so that a request is refused two or three times at most before it is alone."""


class Slots:
    """Additive increase, multiplicative decrease, as TCP does it.

    Source:
        RFC 5681, section 3.1 (congestion avoidance)

    Args:
        limit: requests under way at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._allowed = float(limit)
        self._used = 0
        self._cut_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def allowed(self) -> int:
        """Requests that may be under way now."""
        return int(self._allowed)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A slot, once one is free; those who wait get them in turn."""
        while self._used >= self.allowed:
            free = asyncio.get_running_loop().create_future()
            self._waiting.append(free)
            try:
                await free
            except asyncio.CancelledError:
                if free.done() and not free.cancelled():
                    self._wake()  # it was this one's turn
                raise
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1
            self._wake()

    def too_many(self, began: float) -> None:
        """The server refused a request because there are too many; of those that were sent together one counts.

        Args:
            began: when it was sent, by `time.monotonic`.
        """
        if began >= self._cut_at:
            self._allowed = max(1.0, self._allowed * _CUT)
            self._cut_at = time.monotonic()

    def went_well(self) -> None:
        """The server answered."""
        if self._allowed < self._limit:
            self._allowed = min(float(self._limit), self._allowed + 1 / self._allowed)
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                return
