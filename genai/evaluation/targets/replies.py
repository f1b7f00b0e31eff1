"""What comes back from a server, before it is read as an answer."""

from __future__ import annotations

import json
import re
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


def words_of(text: bytes) -> str:
    """What the body of an error says, on one line; nothing where it is none of OpenAI's kind."""
    try:
        values = json.loads(text)
    except ValueError:
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(values, dict) and name in values:
            values = values[name]
    if not isinstance(values, str):
        return ""
    visible = "".join(letter if letter.isprintable() else " " for letter in values)
    return re.sub(r"\s+", " ", visible).strip()[:_MAX_SAID]
