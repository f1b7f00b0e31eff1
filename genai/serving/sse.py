"""Server-sent events, as OpenAI's API has them: a line of JSON each (WHATWG HTML, section 9.2)."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
"""What a stream ends with when nothing went wrong."""

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
"""Of an answer of events; the last two keep proxies from holding events back."""


def data(payload: bytes) -> bytes:
    """One event.

    Args:
        payload: JSON without a line break.
    """
    return b"data: " + payload + b"\n\n"
