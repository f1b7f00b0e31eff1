"""Ids of what the engine is asked: one engine serves several processes, and tells answers apart by them."""

from __future__ import annotations

import itertools
import secrets

_OF_PROCESS = secrets.token_hex(6)
_numbers = itertools.count()


def engine_id(request_id: str) -> str:
    """An id that nothing else has, in this process or another one.

    Args:
        request_id: of the HTTP request, which is told first so that the logs of both can be read side by side.
    """
    return f"{request_id}-{_OF_PROCESS}-{next(_numbers):x}"
