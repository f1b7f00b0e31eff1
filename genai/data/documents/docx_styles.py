"""The styles of a Word document: what says that a paragraph is a heading or an item."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEADING = re.compile(r"heading ?([1-9])")
_MOST_ANCESTORS = 20
BODY_LEVEL = 9
"""The outline level of paragraphs that are no headings; 0 is the highest heading."""


@dataclass
class _Style:
    name: str = ""
    based_on: str = ""
    outline_level: int | None = None


class Styles:
    """Takes the elements of `styles.xml`, then answers for style ids. Names are Word's own, whatever its language."""

    def __init__(self) -> None:
        self._styles: dict[str, _Style] = {}
        self._current = _Style()

    def start(self, name: str, values: dict[str, str]) -> None:
        """An element begins."""
        value = values.get("val", "")
        if name == "style":
            self._current = self._styles[values.get("styleId", "")] = _Style()
        elif name == "name":
            self._current.name = value.lower()
        elif name == "basedOn":
            self._current.based_on = value
        elif name == "outlineLvl" and value.isdecimal():
            self._current.outline_level = int(value)

    def end(self, name: str) -> None:
        """An element ends."""

    def characters(self, text: str) -> None:
        """Styles have no text."""

    def heading_level(self, style_id: str) -> int | None:
        """1 to 9; None for what is no heading."""
        for style in self._ancestry(style_id):
            match = _HEADING.fullmatch(style.name)
            if match:
                return int(match[1])
            if style.name == "title":
                return 1
            if style.outline_level is not None:
                return style.outline_level + 1 if style.outline_level < BODY_LEVEL else None
        return None

    def is_item(self, style_id: str) -> bool:
        """Whether paragraphs of this style are items of a list."""
        return any(style.name.startswith(("list bullet", "list number")) for style in self._ancestry(style_id))

    def is_contents(self, style_id: str) -> bool:
        """Whether paragraphs of this style are lines of a table of contents."""
        return any(style.name.startswith("toc ") for style in self._ancestry(style_id))

    def _ancestry(self, style_id: str) -> list[_Style]:
        """The style, what it is based on, and so on. An id that is not declared stands for its own name."""
        found: list[_Style] = []
        while style_id and len(found) < _MOST_ANCESTORS:
            found.append(self._styles.get(style_id) or _Style(name=style_id.lower()))
            style_id = found[-1].based_on
        return found
