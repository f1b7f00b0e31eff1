"""What a check of a whole config finds, before it is given a place in the file."""

from __future__ import annotations

from dataclasses import dataclass

from genai.config.tree import Key, parse_key


@dataclass(frozen=True)
class Finding:
    """A fault that no single field shows, or a setting without an effect."""

    key: Key
    message: str
    fix: str | None = None
    is_warning: bool = False
    """Only a log line: the job can run."""


def fault(key: str, message: str, fix: str | None = None) -> Finding:
    """A finding that stops the job, at a dotted key."""
    return Finding(parse_key(key), message, fix)


def no_effect(key: str, why: str) -> Finding:
    """A finding that is logged: the setting at a dotted key changes nothing."""
    return Finding(parse_key(key), f"{key} has no effect: {why}", is_warning=True)
