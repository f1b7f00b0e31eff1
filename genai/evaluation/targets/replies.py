"""What comes back from a server, before it is read as an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MAX_SAID = 300


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server answered."""

    body: Any
    """As JSON; of a stream the list of its events."""
    latency_s: float
    """From sending the request to the end of the answer."""
    event_times_s: tuple[float, ...] | None = None
    """Of a stream: when each event came, after the request was sent; None: it came whole."""
