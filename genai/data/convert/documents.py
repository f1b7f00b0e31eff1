"""Files that are one document each: plain text, Markdown and HTML.

Markdown stays as it is, since a language model should learn to write it; only the front matter between `---` lines and
HTML comments go. HTML becomes plain text. Plain text is taken byte by byte as it stands.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Callable

from genai.data.convert.html_text import html_to_text
from genai.data.readers import SourceFile, suffix_of
from genai.data.rows import BadRow

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_DECLARED = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?([A-Za-z0-9_\-]+)""", re.I)
_WHERE_DECLARED = 4096


def read_document(file: SourceFile) -> str | BadRow:
    """The text of one file.

    Args:
        file: its ending says what it is, see `DOCUMENT_SUFFIXES`.

    Returns:
        the text, which may be empty; or what is wrong with the file, with the line where that can be told.
    """
    try:
        with gzip.open(file.path) if file.path.suffix.lower() == ".gz" else open(file.path, "rb") as stream:
            content = stream.read()
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        return BadRow(source=file.name, reason=f"the gzip file is damaged: {error}")
    except PermissionError:
        return BadRow(source=file.name, reason="no permission to read it")
    suffix = suffix_of(file.path)
    text = _decode(content, file.name, encoding=_declared(content) if suffix in _HTML else "utf-8")
    return text if isinstance(text, BadRow) else DOCUMENT_SUFFIXES[suffix](text)


def _decode(content: bytes, name: str, *, encoding: str) -> str | BadRow:
    for mark, marked in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if content.startswith(mark):
            content, encoding = (content[3:], marked) if marked == "utf-8" else (content, marked)
            break
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wanted = encoding.upper()
        return BadRow(source=f"{name}:{line}", reason=f"byte {content[error.start]:#04x} is no {wanted}")
    return text.replace("\r\n", "\n") if "\r" in text else text


def _declared(content: bytes) -> str:
    """The encoding that a page says it has, where Python knows it; else UTF-8."""
    match = _DECLARED.search(content, 0, _WHERE_DECLARED)
    name = match[1].decode() if match else "utf-8"
    try:
        b"<>".decode(name)
    except (LookupError, UnicodeError):
        return "utf-8"
    return name


def _markdown(text: str) -> str:
    return _COMMENT.sub("", _FRONT_MATTER.sub("", text)).strip("\n")


def _plain(text: str) -> str:
    return text


_HTML = (".html", ".htm", ".xhtml")
DOCUMENT_SUFFIXES: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(_HTML, html_to_text),
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _plain,
    ".text": _plain,
    ".rst": _plain,
}
"""Ending of a file that is one document -> what makes text of its content."""
