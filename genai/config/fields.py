"""Types of single fields that several job schemas share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from genai.config import sizes
from genai.config.durations import EXAMPLE, Duration


@dataclass(frozen=True)
class Notation:
    """Annotates a text that follows rules of its own, so that messages and the JSON schema can name them."""

    name: str
    """What such a text is, with its article."""
    example: str
    """How one is written."""
    pattern: str
    """A regular expression (ECMA-262) that every such text matches."""


_DURATION_PATTERN = r"^\s*([0-9]+(_[0-9]+)*(\.[0-9]+)?([eE]\+?[0-9]+)?|\.[0-9]+)\s*(ep|ba|tok|sp|dur)\s*$"
_DURATION = Notation("a duration", EXAMPLE, _DURATION_PATTERN)


def _duration(text: str) -> str:
    Duration.parse(text)
    return text


def _positive_duration(text: str) -> str:
    if Duration.parse(text).value <= 0:
        raise ValueError(f"{text!r} must be longer than zero")
    return text


def _size(text: str) -> str:
    sizes.parse_size(text)
    return text


DurationText = Annotated[str, AfterValidator(_duration), _DURATION]
"""`3ep`, `500ba`, `2e9tok`, `1000sp`, `0.1dur`: read with `Duration.parse`."""
PositiveDurationText = Annotated[str, AfterValidator(_positive_duration), _DURATION]
SizeText = Annotated[str, AfterValidator(_size), Notation("a size", sizes.EXAMPLE, sizes.PATTERN)]
"""`10gb`, `500mb`: read with `parse_size`."""
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole, between 0 and 1."""
