"""The readable text of an HTML page, and where its headings stand in it.

The standard library's parser is used: it forgives what browsers forgive, and what matters here (which elements break a
line, which say nothing) is our own in any case. What is left out: scripts, styles, forms, and the frame of a page
(`nav`, `header`, `footer`, `aside`, also as ARIA roles). A page whose frame holds all of its text keeps the frame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

from genai.data.documents.parsed import ParsedDocument, Section

_SILENT = frozenset({"script", "style", "noscript", "template", "svg", "math", "head", "button", "select", "iframe"})
_FRAME = frozenset({"nav", "header", "footer", "aside"})
_FRAME_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_BLOCKS = frozenset(
    {
        *_FRAME,
        *("address", "article", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl"),
        *("dt", "fieldset", "figcaption", "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "html", "li"),
        *("main", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "title", "tr", "ul"),
    }
)
_SPACED = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "table", "ul", "ol", "dl", "blockquote", "figure"})
"""Blocks with an empty line around them."""
_CELLS = frozenset({"td", "th"})
_CLOSES_ITSELF = {"li": "li", "p": "p", "tr": "tr", "td": "td", "th": "th", "dt": "dt", "dd": "dd", "option": "option"}
"""Elements whose end tag may be missing before one of the same name."""
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLANKS = re.compile(r"[ \t\r\n\f\v]+")


def html_to_text(html: str) -> str:
    """The text of a page: blocks on lines of their own, white space as a browser shows it, list items after a dash.

    Args:
        html: a whole page or a piece of one.
    """
    return html_to_document(html).text


def html_to_document(html: str) -> ParsedDocument:
    """The text of a page as `html_to_text` gives it, with its headings `h1` to `h6`.

    Args:
        html: a whole page or a piece of one.
    """
    document = _extract(html, skip_frame=True)
    return document if document.text else _extract(html, skip_frame=False)


def _extract(html: str, *, skip_frame: bool) -> ParsedDocument:
    parser = _TextParser(skip_frame=skip_frame)
    parser.feed(html)
    parser.close()
    return parser.document()


@dataclass
class _Heading:
    """A heading that was met."""

    level: int
    first_line: int
    """Index of its first line."""
    last_line: int | None = None
    """Index of its last line; None while the heading goes on."""


class _TextParser(HTMLParser):
    """Collects lines; elements that are open lie on a stack, each with whether it is silent and preformatted."""

    def __init__(self, *, skip_frame: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._skip_frame = skip_frame
        self._open: list[str] = []
        self._silent_below: int | None = None
        self._num_pre = 0
        self._lines: list[str] = [""]
        self._headings: list[_Heading] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _CLOSES_ITSELF.get(tag) is not None and self._open and self._open[-1] == tag:
            self.handle_endtag(tag)
        if tag in _VOID:
            self._void(tag)
            return
        if self._silent_below is None and self._is_silent(tag, attrs):
            self._silent_below = len(self._open)
        self._open.append(tag)
        if self._silent_below is None:
            self._begin(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            self._void(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._open:
            return
        while self._open:
            closed = self._open.pop()
            if self._silent_below is None:
                self._end(closed)
            elif len(self._open) <= self._silent_below:
                self._silent_below = None
            if closed == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._silent_below is not None:
            return
        if self._num_pre:
            first, *rest = data.expandtabs(4).split("\n")
            self._lines[-1] += first
            self._lines.extend(line.rstrip("\r") for line in rest)
            return
        words = _BLANKS.sub(" ", data)
        if not self._lines[-1] or self._lines[-1].endswith(" "):
            words = words.lstrip(" ")
        self._lines[-1] += words

    def document(self) -> ParsedDocument:
        """What was collected, with at most one empty line in a row."""
        self._end_heading(closed=True)
        text, starts = _joined(self._lines)
        sections: list[Section] = []
        for heading in self._headings:
            lines = range(heading.first_line, (heading.last_line or heading.first_line) + 1)
            title = " ".join(" ".join(self._lines[index] for index in lines).removeprefix("- ").split())
            start = next((starts[index] for index in lines if index in starts), None)
            if title and start is not None:
                sections.append(Section(start=start, level=heading.level, title=title))
        return ParsedDocument(text=text, sections=tuple(sections))

    def _is_silent(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> bool:
        if tag in _SILENT:
            return True
        given = dict(attrs)
        if "hidden" in given or given.get("aria-hidden") == "true":
            return True
        if tag == "a" and "headerlink" in (given.get("class") or "").split():  # Sphinx's sign behind every heading
            return True
        if not self._skip_frame or given.get("role") in _FRAME_ROLES:
            return self._skip_frame
        return tag in _FRAME and "article" not in self._open and "main" not in self._open

    def _begin(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._break(empty_line=tag in _SPACED)
            self._end_heading(closed=tag in _HEADINGS)
        if tag in _HEADINGS:
            self._headings.append(_Heading(level=_HEADINGS[tag], first_line=len(self._lines) - 1))
        elif tag == "pre":
            self._num_pre += 1
        elif tag == "li":
            self._lines[-1] = "- "
        elif tag in _CELLS and self._lines[-1].strip():
            self._lines[-1] = f"{self._lines[-1].rstrip()} | "

    def _end(self, tag: str) -> None:
        if tag == "pre":
            self._num_pre -= 1
        if tag in _BLOCKS:
            self._break(empty_line=tag in _SPACED)
            self._end_heading(closed=tag in _HEADINGS)

    def _end_heading(self, *, closed: bool = False) -> None:
        """A heading that has text ends with the first block in it or behind it, whether or not it is closed."""
        heading = self._headings[-1] if self._headings else None
        if heading is None or heading.last_line is not None:
            return
        lines = range(len(self._lines) - 1, heading.first_line - 1, -1)
        heading.last_line = next((index for index in lines if self._lines[index].strip() not in ("", "-")), None)
        if closed and heading.last_line is None:
            self._headings.pop()

    def _void(self, tag: str) -> None:
        if self._silent_below is None and tag in ("br", "hr"):
            self._lines.append("")

    def _break(self, *, empty_line: bool) -> None:
        in_item = self._lines[-1] == "- "
        if self._lines[-1].strip() and not in_item:
            self._lines.append("")
        if empty_line and not in_item and len(self._lines) > 1 and self._lines[-2].strip():
            self._lines.append("")


def _joined(lines: Sequence[str]) -> tuple[str, dict[int, int]]:
    """The lines that say something as one text, and where in it each of them begins."""
    kept: list[str] = []
    starts: dict[int, int] = {}
    position = 0
    for index, line in enumerate(line.rstrip() for line in lines):
        if line not in ("", "-") or (kept and kept[-1] and line == ""):
            kept.append(line)
            starts[index] = position
            position += len(line) + 1
    return "\n".join(kept).strip("\n"), starts
