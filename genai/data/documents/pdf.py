"""PDF files, read by PDFium."""

from __future__ import annotations

import re
from typing import Any

from genai.data.documents.parsed import ParsedDocument
from genai.errors import DataError, MissingExtraError

_PAGE_BREAK = "\n\n"
_LEADERS = re.compile(r"(?: ?\.){4,}")
"""Dots that lead the eye to a page number."""
_WRONG_PASSWORD = 4
_UNKNOWN_SECURITY = 5
_SIGNS: dict[int, str | None] = {
    **dict.fromkeys((*range(0x20), 0x7F), " "),
    ord("\t"): "\t",
    ord("\n"): "\n",
    # what PDFium puts where a word was hyphenated at the end of a line, which it joins
    0x02: None,
    0xFFFE: None,
}


def parse_pdf(content: bytes) -> ParsedDocument:
    """The text of all pages, with an empty line between them.

    Args:
        content: of the file.

    Raises:
        DataError: it is damaged, needs a password, or has no text.
        MissingExtraError: pypdfium2 is not installed.
    """
    try:
        import pypdfium2
    except ModuleNotFoundError as error:
        raise MissingExtraError("pypdfium2", extra="index", needed_for="reading PDF files") from error
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        raise _reason(error) from error
    with document:
        texts = [_page_text(document, number) for number in range(len(document))]
    if not any(texts):
        pages = "its page has" if len(texts) == 1 else f"none of its {len(texts)} pages has"
        raise DataError(f"the PDF holds no text: {pages} any", fix="scanned pages must go through OCR first")
    starts: list[int] = []
    position = 0
    for text in texts:
        starts.append(position)
        position += len(text) + len(_PAGE_BREAK) if text else 0
    return ParsedDocument(text=_PAGE_BREAK.join(filter(None, texts)), page_starts=tuple(starts))


def _page_text(document: Any, number: int) -> str:
    from pypdfium2 import PdfiumError

    try:
        page = document[number]
        try:
            textpage = page.get_textpage()
            try:
                text: str = textpage.get_text_range()
            finally:
                textpage.close()
        finally:
            page.close()
    except PdfiumError as error:
        raise DataError(f"page {number + 1} of the PDF cannot be read: {error}") from error
    return _LEADERS.sub(" …", text.replace("\r\n", "\n").translate(_SIGNS)).strip()


def _reason(error: Any) -> DataError:
    if error.err_code in (_WRONG_PASSWORD, _UNKNOWN_SECURITY):
        return DataError("the PDF is protected by a password", fix="save it without one")
    return DataError("the PDF is damaged: PDFium finds no pages in it", fix="see whether a PDF viewer opens it")
