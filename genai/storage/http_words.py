"""What servers say beside their answers: when to come back, and what was wrong."""

from __future__ import annotations

import email.utils
import json
import re
import time

MAX_WORDS = 300
"""Characters of an error that are worth a line."""


def retry_after(text: str | None) -> float | None:
    """Seconds that a header Retry-After asks for: a number of them, or a date.

    Source:
        RFC 9110, section 10.2.3
    """
    if text is None:
        return None
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def words_of(text: bytes | str) -> str:
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
    return re.sub(r"\s+", " ", visible).strip()[:MAX_WORDS]
