"""What parsing a file gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a document with a heading of its own; it goes on to the next heading."""

    start: int
    """First character of it in the text, the heading itself among it."""
    level: int
    """1 is the highest."""
    title: str
    """The heading."""


@dataclass(frozen=True, kw_only=True)
class ParsedDocument:
    """The text of a file; places in it count characters."""

    text: str
    """Lines end with a line feed."""
    page_starts: tuple[int, ...] = ()
    """First character of each page, the first page at 0; empty where there are no pages. A page without text begins
    where the next one does."""
    sections: tuple[Section, ...] = ()
    """In their order."""
