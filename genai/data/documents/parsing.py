"""Which parser reads which file, and what every file must hold to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from genai.data.documents.decoding import UndecodableError, declared_encoding, decode
from genai.data.documents.docx import parse_docx
from genai.data.documents.html_text import html_to_document
from genai.data.documents.markdown import parse_markdown
from genai.data.documents.parsed import ParsedDocument, Section
from genai.data.documents.pdf import parse_pdf
from genai.errors import DataError

MAX_TITLE_CHARS = 200
_PDF, _ZIP, _OLE = b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WHERE_PDF_BEGINS = 1024
_WHERE_NUL_IS_SOUGHT = 8192
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that no UTF-8 file or database can hold."""


def parse(content: bytes, suffix: str) -> ParsedDocument:
    """The text of one file.

    Args:
        content: of the file.
        suffix: one of `DOCUMENT_SUFFIXES`.

    Raises:
        DataError: says why the file cannot be used, without naming it.
        MissingExtraError: the package for this kind of file is not installed.
    """
    if not content:
        raise DataError("the file is empty")
    _check_kind(content, suffix)
    try:
        document = _PARSERS[suffix](content)
    except UndecodableError as error:
        raise DataError(f"line {error.line}: {error}", fix="save the file as UTF-8") from error
    if not document.text.strip():
        raise DataError("there is no text in the file")
    return replace(
        document,
        text=_UNUSABLE.sub("\ufffd", document.text),
        sections=tuple(_with_short_title(section) for section in document.sections),
    )


def _check_kind(content: bytes, suffix: str) -> None:
    """Refuse a file whose content is of another kind than its ending says."""
    if suffix == ".pdf":
        if _PDF not in content[:_WHERE_PDF_BEGINS]:
            what = "an HTML page" if content.lstrip()[:1] == b"<" else "something else"
            raise DataError(f"it is no PDF, but {what}")
    elif suffix == ".docx":
        if content.startswith(_OLE):
            raise DataError("it is protected by a password, or a Word document of before 2007 (.doc)")
        if not content.startswith(_ZIP):
            raise DataError("it is no Word document: that begins as a zip archive does")
    else:
        _check_text(content)


def _check_text(content: bytes) -> None:
    for signature, kind in ((_PDF, "a PDF"), (_ZIP, "a zip archive"), (_OLE, "an old office document")):
        if content.startswith(signature):
            raise DataError(f"it is {kind}, whatever its ending says")
    if b"\0" in content[:_WHERE_NUL_IS_SOUGHT] and not content.startswith(_UTF16):
        raise DataError("it holds NUL bytes: it is no text")


def _with_short_title(section: Section) -> Section:
    title = _UNUSABLE.sub("\ufffd", section.title)
    return replace(section, title=title if len(title) <= MAX_TITLE_CHARS else f"{title[: MAX_TITLE_CHARS - 1]}…")


def _html(content: bytes) -> ParsedDocument:
    return html_to_document(decode(content, encoding=declared_encoding(content)))


def _markdown(content: bytes) -> ParsedDocument:
    return parse_markdown(decode(content))


def _plain(content: bytes) -> ParsedDocument:
    return ParsedDocument(text=decode(content))


_PARSERS: dict[str, Callable[[bytes], ParsedDocument]] = {
    ".pdf": parse_pdf,
    ".docx": parse_docx,
    **dict.fromkeys((".html", ".htm", ".xhtml"), _html),
    **dict.fromkeys((".md", ".markdown"), _markdown),
    **dict.fromkeys((".txt", ".text", ".rst"), _plain),
}
"""Ending of a file, in small letters -> what reads it."""

DOCUMENT_SUFFIXES = tuple(_PARSERS)
"""Endings of the files that can be read."""
