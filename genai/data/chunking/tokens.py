"""The tokens of a text, and how many lie in a part of it."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable

Offsets = Callable[[str], list[tuple[int, int]]]
"""Start and end, in characters, of every token of a text."""

MAX_BLOCK_CHARS = 100_000
"""Longer texts are tokenised in blocks, so that what the tokenizer gives fits into memory."""
_BLOCK_ENDS = (re.compile(r"\n[^\S\n]*\n"), re.compile(r"\n"), re.compile(r"\s"))


class Tokens:
    """Places of the tokens of one text.

    Args:
        text: any.
        offsets: of the tokenizer.
    """

    def __init__(self, text: str, offsets: Offsets) -> None:
        self._starts = array("Q")
        self._ends = array("Q")
        position = 0
        while position < len(text):
            end = _block_end(text, position)
            for token_start, token_end in offsets(text if end - position == len(text) else text[position:end]):
                if token_end > token_start:
                    self._starts.append(position + token_start)
                    self._ends.append(position + token_end)
            position = end

    def count(self, start: int, end: int) -> int:
        """How many tokens lie, wholly or in part, in the slice."""
        return max(bisect_left(self._starts, end) - bisect_right(self._ends, start), 0)

    def reach(self, start: int, num_tokens: int) -> int | None:
        """The largest end of a slice from `start` with at most `num_tokens`; None when the text is not that long."""
        index = bisect_right(self._ends, start) + num_tokens
        return self._starts[index] if index < len(self._starts) else None

    def filled(self, start: int, num_tokens: int) -> int:
        """The smallest end of a slice from `start` that holds `num_tokens` whole, of which there are enough."""
        return self._ends[bisect_right(self._ends, start) + num_tokens - 1] if num_tokens else start

    def reach_back(self, end: int, num_tokens: int) -> int:
        """The smallest start of a slice up to `end` with at most `num_tokens`."""
        index = bisect_left(self._starts, end) - num_tokens
        start = self._starts[index] if index >= 0 else 0
        while self.count(start, end) > num_tokens:  # several tokens may make up one character
            start = self.next_start(start, end)
        return start

    def next_start(self, position: int, end: int) -> int:
        """The first place behind `position`, at most `end`, at which a token begins."""
        index = bisect_right(self._starts, position)
        return min(self._starts[index], end) if index < len(self._starts) else end


def _block_end(text: str, start: int) -> int:
    """Where a block from `start` ends: at white space in its second half, where there is any."""
    end = start + MAX_BLOCK_CHARS
    if end >= len(text):
        return len(text)
    middle = start + MAX_BLOCK_CHARS // 2
    for boundary in _BLOCK_ENDS:
        last = max((match.end() for match in boundary.finditer(text, middle, end)), default=None)
        if last is not None:
            return last
    return end
