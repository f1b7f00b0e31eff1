"""How many requests are under way at once."""

from __future__ import annotations

from genai.serving.errors import ApiError

_LATER = ((b"retry-after", b"1"),)


class Concurrency:
    """Counts requests under way, from the moment that they are whole: one that is still on its way takes no place."""

    def __init__(self) -> None:
        self.under_way = 0

    def enter(self, most: int) -> None:
        """One more; `leave` when it is answered.

        Raises:
            ApiError: 429 when there are enough.
        """
        if self.under_way >= most:
            message = f"{most} requests are under way already; try again"
            raise ApiError(message, status=429, code="rate_limit_exceeded", headers=_LATER)
        self.under_way += 1

    def leave(self) -> None:
        """One less."""
        self.under_way -= 1
