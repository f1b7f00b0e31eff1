"""Texts into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from genai.data.chunking.boundaries import FINDERS, Rank, first_sentence, first_word, last_section
from genai.data.chunking.pieces import Piece
from genai.data.chunking.tokens import Offsets, Tokens
from genai.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class _Chunker:
    """Where chunks may end, the best kind of place first."""

    ranks: tuple[Rank, ...]
    least_fill: float
    """A better kind of place is taken only when the chunk is that full, as a share of its tokens."""
    alone: bool = False
    """A section is cut for itself, so that no chunk holds parts of two."""


_LEAST_SECTION_FILL = 0.25
"""Of a chunk that ends where a section does: shorter sections stay together with what follows them."""
_RECURSIVE: tuple[Rank, ...] = ("section", "paragraph", "line", "sentence", "any_line", "word")
CHUNKERS = {
    "recursive": _Chunker(ranks=_RECURSIVE, least_fill=0.5),
    "tokens": _Chunker(ranks=(), least_fill=0.0),
    "sentence": _Chunker(ranks=("sentence", "any_line", "word"), least_fill=0.0),
    "heading": _Chunker(ranks=_RECURSIVE, least_fill=0.5, alone=True),
}
"""Ways to cut; beside them there is "none"."""


def cut(
    text: str,
    offsets: Offsets | Tokens,
    *,
    name: str,
    max_tokens: int,
    overlap_tokens: int,
    section_starts: Sequence[int] = (),
) -> list[Piece]:
    """Cut a text into chunks that are slices of it.

    They come in order, cover every character that is no white space, and hold at most `max_tokens` each, counted in the
    whole text; two exceptions: "none" takes the text as it is, and a single character that is more tokens than that is
    not cut. Tokenised alone, a chunk may have a token or two more: at its start, for tokenizers that treat the
    beginning of a text apart, and at either end where it was cut within a word.

    Args:
        text: any.
        offsets: of the tokenizer, or the tokens of this text where they are known. Texts of more than 100,000
            characters are given to the tokenizer in blocks.
        name: "recursive" ends a chunk at the best place in its second half: a heading (from a quarter on), an empty
            line, a line that ends a sentence, a sentence, any line, a word, a token. "tokens" fills every chunk.
            "sentence" takes as many sentences as fit. "heading" makes a chunk of each section, cut like "recursive"
            where it is too long. "none" makes one chunk.
        max_tokens: of a chunk.
        overlap_tokens: how much a chunk repeats of the one before it, at most: whole words, for "sentence" whole
            sentences, for "tokens" tokens. Nothing is repeated of another section.
        section_starts: where headings begin, ascending.

    Raises:
        UsageError: no such way of cutting, or an overlap that leaves no room for anything new.
    """
    if name == "none":
        start, end = _trim(text, 0, len(text))
        return [Piece(start, end)] if start < end else []
    if name not in CHUNKERS:
        known = ", ".join((*CHUNKERS, "none"))
        raise UsageError(
            f"there is no way of cutting texts called '{name}'", where="chunking.name", fix=f"known: {known}"
        )
    if overlap_tokens >= max_tokens:
        raise UsageError(
            f"an overlap of {overlap_tokens} tokens leaves no room in chunks of {max_tokens}",
            where="chunking.overlap_tokens",
            fix="make it smaller than chunking.max_tokens",
        )
    tokens = offsets if isinstance(offsets, Tokens) else Tokens(text, offsets)
    cutter = _Cutter(text, tokens, CHUNKERS[name], max_tokens, overlap_tokens, section_starts)
    return [piece for start, end in cutter.parts() for piece in cutter.pieces(start, end)]


class _Cutter:
    """Cuts one text from its start to its end."""

    def __init__(
        self,
        text: str,
        tokens: Tokens,
        chunker: _Chunker,
        max_tokens: int,
        overlap_tokens: int,
        section_starts: Sequence[int],
    ) -> None:
        self._text = text
        self._tokens = tokens
        self._chunker = chunker
        self._max_tokens = max_tokens
        self._overlap_tokens = overlap_tokens
        self._section_starts = sorted(section_starts)

    def parts(self) -> Iterator[tuple[int, int]]:
        """What is cut for itself: the whole text, or each section and what comes before the first."""
        starts = [0, *self._section_starts] if self._chunker.alone else [0]
        for start, end in zip(starts, [*starts[1:], len(self._text)], strict=True):
            yield _trim(self._text, start, end)

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The chunks of one part, which has no white space at its ends."""
        done = start
        """Everything before it is in a chunk."""
        while done < end:
            stop = self._stop(start, done, end)
            if stop is None:  # the repeated part leaves no room for the next character
                start, stop = done, self._stop(done, done, end)
                assert stop is not None
            yield Piece(*_trim(self._text, start, stop))
            done = _skip_space(self._text, stop, end)
            start = self._next_start(start, stop, done)

    def _stop(self, start: int, done: int, end: int) -> int | None:
        """Where the chunk that begins at `start` ends, behind `done`; None when nothing new fits."""
        reach = self._tokens.reach(start, self._max_tokens)
        if reach is None or reach >= end:
            return end
        if reach <= done:
            return self._tokens.next_start(done, end) if start == done else None
        for rank in self._chunker.ranks:
            fill = _LEAST_SECTION_FILL if rank == "section" else self._chunker.least_fill
            low = max(self._tokens.filled(start, int(fill * self._max_tokens)), done + 1)
            if rank == "section":
                place = last_section(self._section_starts, low, reach)
            else:
                place = FINDERS[rank](self._text, low, reach)
            if place is not None:
                return place
        return reach

    def _next_start(self, start: int, stop: int, done: int) -> int:
        """Where the next chunk begins: at `done`, or before it where it repeats the end of the chunk `start..stop`."""
        if not self._overlap_tokens or last_section(self._section_starts, stop, done) is not None:
            return done
        back = self._tokens.reach_back(stop, self._overlap_tokens)
        back = max(back, start + 1, last_section(self._section_starts, start, stop) or 0)
        if "sentence" in self._chunker.ranks[:1]:
            back = first_sentence(self._text, start, back, stop) or done
        elif self._chunker.ranks:
            back = first_word(self._text, back, stop)
        return _skip_space(self._text, back, done)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    start = _skip_space(text, start, end)
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _skip_space(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start
