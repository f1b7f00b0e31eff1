"""The id that a request has in its answer, in the log and in the engine."""

from __future__ import annotations

import random
import re

HEADER = b"x-request-id"

_FITTING = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch


class RequestIds:
    """Gives ids; those that are under way are unique, so that an engine can tell answers apart by them."""

    def __init__(self) -> None:
        self._under_way: set[str] = set()

    def take(self, wanted: bytes | None) -> str:
        """The asker's own id where it is harmless in logs and headers and nobody else's at the moment, else a new one.

        To be given back with `release`.
        """
        chosen = wanted.decode() if wanted is not None and _FITTING(wanted) else new_id()
        if chosen in self._under_way:
            chosen = new_id()
        self._under_way.add(chosen)
        return chosen

    def release(self, request_id: str) -> None:
        """The request is over."""
        self._under_way.discard(request_id)


def new_id() -> str:
    """An id that nobody has; it need not be hard to guess."""
    return f"{random.getrandbits(96):024x}"
