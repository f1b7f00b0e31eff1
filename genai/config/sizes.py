"""Amounts of bytes as people write them: `10gb`, `500mb`; a kilobyte is 1,024 bytes, as in mosaicml-streaming."""

from __future__ import annotations

import re

EXAMPLE = "write a number and a unit: 500mb, 10gb, 1.5tb"
PATTERN = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]\s*$"
_PARTS = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?)i?b", re.ASCII)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(value: int | str) -> int:
    """Bytes that `10gb` stands for; a whole number is taken as it is.

    Raises:
        ValueError: it is no size; the message holds an example.
    """
    if isinstance(value, int):
        return value
    match = _PARTS.fullmatch(value.strip().lower())
    size = 0 if match is None else int(float(match["number"]) * (1 << _POWERS[match["unit"]]))
    if size <= 0:
        raise ValueError(f"{value!r} is not a size: {EXAMPLE}")
    return size
