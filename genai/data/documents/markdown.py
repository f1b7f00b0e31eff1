"""Markdown as it stands, with its headings.

The front matter and the HTML comments outside of code are blanked out: they turn into as many spaces, so that places
in the text are places in the file.

Source: CommonMark 0.31, sections 4.2 (ATX headings), 4.3 (setext headings), 4.5 (fenced code blocks).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from genai.data.documents.parsed import ParsedDocument, Section

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r" {0,3}(?P<signs>`{3,}|~{3,})(?P<rest>.*)")
_ATX = re.compile(r" {0,3}(?P<signs>#{1,6})(?:[ \t]+(?P<title>.*?))?(?:[ \t]+#+)?[ \t]*")
_UNDERLINE = re.compile(r" {0,3}(?P<signs>=+|-{2,})[ \t]*")
_NO_PARAGRAPH = re.compile(r" {0,3}(?:[-*+>|#]|\d+[.)][ \t])| {4}|\t")
"""Lines that no underline makes a heading: items, quotes, tables, indented code."""
_INLINE = re.compile(r"!?\[(?P<text>[^\]]*)\]\([^)]*\)|(?P<mark>\*\*|__|`)")


def parse_markdown(text: str) -> ParsedDocument:
    """The text with its headings.

    Args:
        text: of the file, with lines that end with a line feed.
    """
    text = _FRONT_MATTER.sub(_blank, text)
    blanked: list[str] = []
    sections: list[Section] = []
    last_comment_end = text.rfind("-->")
    in_comment = False
    previous = ""
    position = 0
    for line, in_code in _lines(text):
        if not in_code:
            line, in_comment = _without_comments(line, in_comment, can_begin=position < last_comment_end)
            section = _section(line, previous, position)
            if section is not None:
                sections.append(section)
        previous = "" if in_code else line
        blanked.append(line)
        position += len(line)
    return ParsedDocument(text="".join(blanked), sections=tuple(sections))


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line with its end, and whether it belongs to fenced code."""
    fence = ""
    for line in _LINE.findall(text):
        match = _FENCE.match(line)
        if fence:
            yield line, True
            if match and match["signs"].startswith(fence) and not match["rest"].strip():
                fence = ""
        elif match and not (match["signs"][0] == "`" and "`" in match["rest"]):
            fence = match["signs"]
            yield line, True
        else:
            yield line, False


def _section(line: str, previous: str, position: int) -> Section | None:
    content = line.rstrip("\n")
    atx = _ATX.fullmatch(content)
    if atx:
        title = _plain(atx["title"] or "")
        return Section(start=position, level=len(atx["signs"]), title=title) if title else None
    underline = _UNDERLINE.fullmatch(content)
    if underline and previous.strip() and not _NO_PARAGRAPH.match(previous) and not _UNDERLINE.match(previous):
        level = 1 if underline["signs"][0] == "=" else 2
        return Section(start=position - len(previous), level=level, title=_plain(previous))
    return None


def _plain(title: str) -> str:
    """A heading without the signs for links, code and bold."""
    return " ".join(_INLINE.sub(lambda match: match["text"] or "", title).split())


def _without_comments(line: str, in_comment: bool, *, can_begin: bool) -> tuple[str, bool]:
    """The line with comments blanked out, and whether one goes on behind it. One that never ends is no comment."""
    kept = ""
    while line:
        before, mark, line = line.partition("-->" if in_comment else "<!--")
        begins = bool(mark) and can_begin and before.count("`") % 2 == 0
        if in_comment:
            kept += _spaces(before + mark)
            in_comment = not mark
        else:
            kept += before + (_spaces(mark) if begins else mark)
            in_comment = begins
    return kept, in_comment


def _blank(match: re.Match[str]) -> str:
    return _spaces(match[0])


def _spaces(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
