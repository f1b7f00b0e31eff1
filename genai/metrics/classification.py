"""What a model's answer says when it is asked for a label or for a number."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

_WRAPPING = frozenset("*_`~\"'.,;:!? ")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


def plain_label(text: str, *, ignore_case: bool = True) -> str:
    """A label without what models put around it: `**Positive**.` is `positive`.

    Args:
        text: an answer, or a label as the data has it.
        ignore_case: capital letters become small ones.

    Returns:
        the text without white space and punctuation at both ends, unless there is nothing else.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if ignore_case:
        text = text.lower()
    start, end = 0, len(text)
    while start < end and _is_wrapping(text[start]):
        start += 1
    while end > start and _is_wrapping(text[end - 1]):
        end -= 1
    return text[start:end] or text


def read_number(text: str) -> float | None:
    """The number that a text consists of, a percentage as a share; None where it is anything else."""
    text = text.strip()
    number = text.removesuffix("%").rstrip()
    if not _NUMBER.fullmatch(number):
        return None
    value = float(number) / (1 if number == text else 100)
    return value if math.isfinite(value) else None


def log_odds(logprobs: Sequence[float], positive: int) -> float:
    """How much likelier one choice is than all others together, as a logarithm.

    Args:
        logprobs: of each choice, natural logarithms; they need not add up to one.
        positive: which one.
    """
    others = np.delete(np.asarray(logprobs, dtype=np.float64), positive)
    return float(logprobs[positive] - np.logaddexp.reduce(others))


def _is_wrapping(character: str) -> bool:
    """Quotes, brackets, marks of Markdown and the ends of sentences; other signs may belong to a label: C#, C++, +1."""
    return character in _WRAPPING or unicodedata.category(character) in {"Pi", "Pf", "Ps", "Pe"}
