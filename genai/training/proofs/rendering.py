"""Training examples as text, with what is trained marked: for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from genai.report.terminal import strip_controls

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from genai.data.tokenized import TokenizedRows


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of an example whose tokens are all trained, or all not."""

    text: str
    """The text exactly as the tokenizer decodes it; the pieces of an example join to the whole text."""
    trained: bool
    """Whether the model learns to say it."""
    num_tokens: int
    """Tokens in it."""


@dataclass(frozen=True, kw_only=True)
class RenderedExample:
    """A training example as text, with what is trained marked."""

    source: str
    """Where the row stands."""
    pieces: tuple[Piece, ...]
    """The whole example."""


def render_examples(
    rows: TokenizedRows,
    tokenizer: PreTrainedTokenizerBase,
    num_examples: int,
    *,
    name_row: Callable[[int], str] = str,
) -> list[RenderedExample]:
    """Examples spread evenly over the rows, each cut where trained turns to untrained."""
    indices = np.unique(np.linspace(0, len(rows) - 1, num=min(num_examples, len(rows)), dtype=np.int64))
    return [_render(rows, int(index), tokenizer, name_row) for index in indices]


def terminal_text(example: RenderedExample, *, colour: bool) -> str:
    """The example for a terminal: trained text in green (between ⟦ ⟧ without colour), control codes taken out."""
    before, after = ("\x1b[32m", "\x1b[0m") if colour else ("⟦", "⟧")
    texts = ((strip_controls(piece.text), piece.trained) for piece in example.pieces)
    return "".join(f"{before}{text}{after}" if trained else text for text, trained in texts)


def _render(
    rows: TokenizedRows, index: int, tokenizer: PreTrainedTokenizerBase, name_row: Callable[[int], str]
) -> RenderedExample:
    token_ids, trained = rows.example(index)
    ids = token_ids.tolist()
    whole = _decode(tokenizer, ids)
    turns = np.flatnonzero(np.diff(trained)) + 1
    bounds = [0, *turns.tolist(), len(ids)]
    # A bound inside a character of several bytes decodes to a replacement character: it goes to the next piece.
    cuts = list(accumulate((_common_prefix(whole, _decode(tokenizer, ids[:bound])) for bound in bounds), max))
    pieces = [
        Piece(text=whole[cut:next_cut], trained=bool(trained[bound]), num_tokens=next_bound - bound)
        for (bound, next_bound), (cut, next_cut) in zip(pairwise(bounds), pairwise(cuts), strict=True)
    ]
    return RenderedExample(source=name_row(index), pieces=tuple(pieces))


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _common_prefix(text: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    differing = (index for index, (a, b) in enumerate(zip(text, other, strict=False)) if a != b)
    return next(differing, min(len(text), len(other)))
