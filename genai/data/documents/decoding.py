"""From bytes to text."""

from __future__ import annotations

import codecs
import re

_DECLARED = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?([A-Za-z0-9_\-]+)""", re.I)
_WHERE_DECLARED = 4096
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""Byte-order mark -> the encoding that knows how to leave it out."""


class UndecodableError(ValueError):
    """Bytes that are no text in the encoding that they should have.

    Args:
        reason: which byte, and which encoding.
        line: where it stands, counted from 1.
    """

    def __init__(self, reason: str, *, line: int) -> None:
        super().__init__(reason)
        self.line = line


def decode(content: bytes, *, encoding: str = "utf-8") -> str:
    """The text, with lines that end with a line feed.

    Args:
        content: of a file.
        encoding: which to take, unless a byte-order mark says otherwise.

    Raises:
        UndecodableError: the bytes do not have that encoding.
    """
    encoding = next((marked for mark, marked in _MARKS if content.startswith(mark)), encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        wanted = encoding.removesuffix("-sig").upper()
        raise UndecodableError(f"byte {error.object[error.start]:#04x} is no {wanted}", line=line) from error
    return text.replace("\r\n", "\n") if "\r" in text else text


def declared_encoding(content: bytes) -> str:
    """The encoding that an HTML page says it has, where Python knows it; else UTF-8."""
    match = _DECLARED.search(content, 0, _WHERE_DECLARED)
    name = match[1].decode() if match else "utf-8"
    try:
        b"<>".decode(name)
    except (LookupError, UnicodeError):
        return "utf-8"
    return name
