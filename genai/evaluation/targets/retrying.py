"""Ask a server again while it is busy or fails, with pauses that grow, but never for ever."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from genai.evaluation.records import Failure
from genai.evaluation.targets.slots import Slots
from genai.log import get_logger

T = TypeVar("T")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
"""Pauses grow up to here; a server that asks for a longer one is not waited for."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An attempt that failed but may go well later."""

    reason: str
    wait_s: float | None = None
    """How long the server asks us to wait."""
    is_too_many: bool = False
    """It is because of the number of requests."""


class Patience:
    """With one server, shared by all requests to it: when it asks one of them to wait, the others wait as well, and
    when it says that there are too many, fewer are under way for a while.

    Args:
        server: what the log calls it.
        concurrency: requests under way at once, at most.
        max_attempts: how often a request is made.
        timeout_s: how long its answer may take, over all attempts; pauses between them, and waiting for its turn, are
            not counted.
    """

    def __init__(self, *, server: str, concurrency: int, max_attempts: int, timeout_s: float) -> None:
        self._server = server
        self._slots = Slots(concurrency)
        self._max_attempts = max_attempts
        self._timeout_s = timeout_s
        self._not_before = 0.0
        self._told: set[str] = set()

    async def ask(self, attempt: Callable[[], Awaitable[T | Refusal]]) -> T | Failure:
        """What an attempt brings in the end, or why none did."""
        left_s, pause_s, refusal = self._timeout_s, FIRST_PAUSE_S, Refusal(reason="")
        for number in range(1, self._max_attempts + 1):
            async with self._slots.one():
                await self._until_allowed()
                began = time.monotonic()
                try:
                    async with asyncio.timeout(left_s):
                        found = await attempt()
                except TimeoutError:
                    before = f" (before that: {refusal.reason})" if refusal.reason else ""
                    return Failure(reason=f"no answer in {self._timeout_s:g} s{before}")
                if not isinstance(found, Refusal):
                    self._slots.went_well()
                    return found
                if found.is_too_many:
                    self._slots.too_many(began)
            refusal, left_s = found, left_s - (time.monotonic() - began)
            if refusal.wait_s is not None and refusal.wait_s > LONGEST_PAUSE_S:
                return Failure(reason=f"{refusal.reason} (it asks for a pause of {refusal.wait_s:.0f} s)")
            if number < self._max_attempts:
                await self._pause(refusal, pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        times = "once" if self._max_attempts == 1 else f"{self._max_attempts} times"
        return Failure(reason=f"{refusal.reason} (asked {times})")

    async def _until_allowed(self) -> None:
        while (wait_s := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)

    async def _pause(self, refusal: Refusal, pause_s: float) -> None:
        if refusal.reason not in self._told:
            self._told.add(refusal.reason)
            _log.warning("%s: %s; it is asked again, with pauses", self._server, refusal.reason)
        if refusal.wait_s is not None:
            self._not_before = max(self._not_before, time.monotonic() + refusal.wait_s)
        if refusal.wait_s is None or refusal.wait_s < pause_s:
            await asyncio.sleep(pause_s)
