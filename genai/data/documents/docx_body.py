"""The body of a Word document: its elements become blocks of text."""

from __future__ import annotations

from dataclasses import dataclass, field

from genai.data.documents.docx_styles import BODY_LEVEL, Styles
from genai.data.documents.parsed import ParsedDocument, Section

_SKIPPED = frozenset({"Fallback", "del", "moveFrom", "pPrChange", "sectPr"})
"""What stands there twice, is gone, or describes how it was before."""
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


@dataclass
class _Paragraph:
    text: list[str] = field(default_factory=list)
    style: str = ""
    list_id: str | None = None
    list_level: int = 0
    outline_level: int | None = None


@dataclass
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    """Texts of the cell that is read."""


@dataclass(frozen=True, kw_only=True)
class _Block:
    text: str
    level: int | None = None
    """Of a heading."""
    is_item: bool = False


class Body:
    """Takes the elements of the document and its notes, then gives the text.

    Args:
        styles: of the document.
    """

    def __init__(self, styles: Styles) -> None:
        self._styles = styles
        self._blocks: list[_Block] = []
        self._paragraphs: list[_Paragraph] = []
        self._tables: list[_Table] = []
        self._num_runs = 0
        self._in_text = False
        self._skipping: list[str] = []

    def start(self, name: str, values: dict[str, str]) -> None:
        """An element begins."""
        if self._skipping or name in _SKIPPED:
            if name in _SKIPPED:
                self._skipping.append(name)
            return
        if name == "p":
            self._paragraphs.append(_Paragraph())
        elif name == "r":
            self._num_runs += 1
        elif name == "t":
            self._in_text = True
        elif name == "tbl":
            self._tables.append(_Table())
        elif self._tables and name == "tr":
            self._tables[-1].rows.append([])
        elif self._tables and name == "tc":
            self._tables[-1].cell = []
        elif self._paragraphs:
            self._describe(self._paragraphs[-1], name, values.get("val", ""))

    def end(self, name: str) -> None:
        """An element ends."""
        if self._skipping:
            if name == self._skipping[-1]:
                self._skipping.pop()
        elif name == "p" and self._paragraphs:
            self._end_paragraph(self._paragraphs.pop())
        elif name == "r":
            self._num_runs -= 1
        elif name == "t":
            self._in_text = False
        elif name == "tbl" and self._tables:
            self._end_table(self._tables.pop())
        elif name == "tc" and self._tables and self._tables[-1].rows:
            self._tables[-1].rows[-1].append(" ".join(" ".join(self._tables[-1].cell).split()))

    def characters(self, text: str) -> None:
        """Text, or white space between elements."""
        if self._in_text and self._paragraphs and not self._skipping:
            self._paragraphs[-1].text.append(text)

    def document(self) -> ParsedDocument:
        """What was read."""
        parts: list[str] = []
        sections: list[Section] = []
        position = 0
        before: _Block | None = None
        for block in self._blocks:
            if before is not None:
                gap = "\n" if before.is_item and block.is_item else "\n\n"
                parts.append(gap)
                position += len(gap)
            if block.level is not None:
                sections.append(Section(start=position, level=block.level, title=" ".join(block.text.split())))
            parts.append(block.text)
            position += len(block.text)
            before = block
        return ParsedDocument(text="".join(parts), sections=tuple(sections))

    def _describe(self, paragraph: _Paragraph, name: str, value: str) -> None:
        if name in _SIGNS:
            if self._num_runs:  # a tab outside of a run says where tabs stop
                paragraph.text.append(_SIGNS[name])
        elif name == "pStyle":
            paragraph.style = value
        elif name == "numId":
            paragraph.list_id = value
        elif name == "ilvl" and value.isdecimal():
            paragraph.list_level = min(int(value), BODY_LEVEL)
        elif name == "outlineLvl" and value.isdecimal():
            paragraph.outline_level = int(value)

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.text).strip()
        if not text or self._styles.is_contents(paragraph.style):
            return
        if self._tables:
            self._tables[-1].cell.append(text)
            return
        level = self._styles.heading_level(paragraph.style)
        if paragraph.outline_level is not None:
            level = paragraph.outline_level + 1 if paragraph.outline_level < BODY_LEVEL else None
        is_item = level is None and (
            self._styles.is_item(paragraph.style) if paragraph.list_id is None else paragraph.list_id != "0"
        )
        if is_item:
            text = f"{'  ' * paragraph.list_level}- {text}"
        self._blocks.append(_Block(text=text, level=level, is_item=is_item))

    def _end_table(self, table: _Table) -> None:
        lines = ["\t".join(row).rstrip() for row in table.rows if any(row)]
        if not lines:
            return
        if self._tables:
            self._tables[-1].cell.extend(lines)
        else:
            self._blocks.append(_Block(text="\n".join(lines)))
