"""Where a text may be cut, from the best places to the last resort.

Every function here gives a place in `low..high`, both included, or None. A place is the index of the first character
behind the cut; white space on either side of it belongs to no chunk.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Literal

from genai.data.chunking.sentences import CLOSERS, ITEM, STOPS, WIDE_CLOSERS, WIDE_STOPS, sentence_ends

Rank = Literal["section", "paragraph", "line", "sentence", "any_line", "word"]
Finder = Callable[[str, int, int], int | None]

_PARAGRAPH = re.compile(r"\n[^\S\n]*(?=\n)")
_LINE = re.compile(rf"(?<=[{STOPS}{WIDE_STOPS}:;])[{CLOSERS}{WIDE_CLOSERS}]*[^\S\n]*\n|\n(?={ITEM}|[^\S\n]*\|)")
_ANY_LINE = re.compile(r"\n")
_WORD = re.compile(r"\s")
_SPACE = re.compile(r"\s*")
_LOOK_AHEAD = 16


def last_section(section_starts: Sequence[int], low: int, high: int) -> int | None:
    """The last heading in `low..high`."""
    index = bisect_right(section_starts, high) - 1
    return section_starts[index] if index >= 0 and section_starts[index] >= low else None


def first_sentence(text: str, start: int, low: int, high: int) -> int | None:
    """The first sentence that begins in `low..high`; those between `start` and `low` are looked at, too."""
    for end in sentence_ends(text, start, high):
        place = _SPACE.match(text, end, high).end()  # type: ignore[union-attr]  # it matches nothing, too
        if low <= place < high:
            return place
    return None


def first_word(text: str, low: int, high: int) -> int:
    """The first word that begins in `low..high`, or `low` within a word that goes on beyond that."""
    if low == 0 or text[low - 1].isspace():
        return low
    space = _WORD.search(text, low, high)
    return low if space is None else space.end()


def _last_sentence(text: str, low: int, high: int) -> int | None:
    return max(sentence_ends(text, low, high), default=None)


def _last_match(pattern: re.Pattern[str]) -> Finder:
    """Finds where the text before the white space that ends a match ends."""

    def find(text: str, low: int, high: int) -> int | None:
        found = None
        for match in pattern.finditer(text, low, min(high + _LOOK_AHEAD, len(text))):
            place = match.start() + len(match[0].rstrip())
            if place > high:
                break
            found = place
        return found

    return find


FINDERS: dict[Rank, Finder] = {
    "paragraph": _last_match(_PARAGRAPH),
    "line": _last_match(_LINE),
    "sentence": _last_sentence,
    "any_line": _last_match(_ANY_LINE),
    "word": _last_match(_WORD),
}
"""What finds the last place of a kind. paragraph: before an empty line; line: one that ends a sentence, or before an
item of a list or a row of a table; sentence; any_line: lines as they are wrapped, or of code; word: white space.
"""
