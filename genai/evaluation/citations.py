"""Citations in an answer: which sentence names which passage, as in `Bees eat honey [1, 3].`"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from genai.data.chunking.sentences import sentence_ends

_MARK = re.compile(r"\[\s*(\d{1,4}(?:\s*[,;\u2013-]\s*\d{1,4})*)\s*\]")
_AFTER_THE_STOP = re.compile(r"([.!?\u3002][\"'\u201d\u2019)]*)((?:\s*\[\s*\d[\d\s,;\u2013-]*\])+)")
_MANY_STOPS = re.compile(r"([.!?\u2026\u3002])[.!?\u2026\u3002]{3,}")
_RANGE = re.compile(r"(\d+)\s*[\u2013-]\s*(\d+)")
_MAX_RANGE = 100


@dataclass(frozen=True, kw_only=True)
class Citation:
    """A sentence and a passage that it names."""

    sentence: str
    """Without the marks."""
    passage: int
    """Its number, from 1; there need be none of that number."""


def citations_of(answer: str) -> list[Citation]:
    """The citations of an answer, in order: numbers in square brackets, before or after the full stop, also [1, 2] and
    [1-3]; each passage once a sentence.
    """
    moved = _AFTER_THE_STOP.sub(r"\2\1", _MANY_STOPS.sub(r"\1\1\1", answer))
    ends = [0, *sentence_ends(moved, 1, len(moved)), len(moved)]
    found: list[Citation] = []
    for part in (moved[start:end] for start, end in pairwise(ends)):
        sentence = re.sub(r"\s+([.!?,;:\u3002])", r"\1", " ".join(_MARK.sub(" ", part).split()))
        numbers = [number for mark in _MARK.finditer(part) for number in _numbers(mark[1])]
        found += [Citation(sentence=sentence, passage=number) for number in dict.fromkeys(numbers)]
    return [citation for citation in found if any(map(str.isalnum, citation.sentence))]


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for piece in re.split(r"[,;]", text):
        if (match := _RANGE.fullmatch(piece.strip())) is None:
            numbers += [int(number) for number in re.findall(r"\d+", piece)]
        else:
            first, last = int(match[1]), int(match[2])
            numbers += range(first, min(last, first + _MAX_RANGE) + 1)
    return numbers
