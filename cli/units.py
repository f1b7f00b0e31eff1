"""Sizes and times on the command line: how they are shown, and how an age is written."""

from __future__ import annotations

import re
import time

import click

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def format_size(size_bytes: float) -> str:
    """Bytes in decimal units: 2_500_000 -> "2.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"


def format_ago(moment: float) -> str:
    """How long ago `moment` (seconds since 1970) was: "3 days ago"."""
    seconds = max(time.time() - moment, 0)
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


def parse_age(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """An option's callback: a length of time such as 30d, in seconds."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip().lower())
    if match is None:
        raise click.BadParameter(f"'{text}' is no age: write 30d, 12h, 90m or 2w")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    """An option's callback: an amount of data such as 20GB, in bytes."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _BYTES:
        raise click.BadParameter(f"'{text}' is no size: write 20GB, 500MB or 1.5TiB")
    return int(float(match[1]) * _BYTES[match[2]])
