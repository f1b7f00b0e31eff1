"""Files that are one document each: plain text, Markdown and HTML.

Markdown stays as it is, since a language model should learn to write it; only the front matter between `---` lines and
HTML comments go. HTML becomes plain text. Plain text is taken byte by byte as it stands.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable

from genai.data.documents.decoding import UndecodableError, declared_encoding, decode
from genai.data.documents.html_text import html_to_text
from genai.data.readers import SourceFile, suffix_of
from genai.data.rows import BadRow

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_COMMENT = re.compile(r"<!--.*?-->", re.S)


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
    try:
        text = decode(content, encoding=declared_encoding(content) if suffix in _HTML else "utf-8")
    except UndecodableError as error:
        return BadRow(source=f"{file.name}:{error.line}", reason=str(error))
    return DOCUMENT_SUFFIXES[suffix](text)


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
