"""A chunk as a place in a text."""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """The slice `text[start:end]`, with no white space at either end."""

    start: int
    end: int
