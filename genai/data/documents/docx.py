"""Word documents (.docx): paragraphs, headings, lists, tables and notes.

A .docx is a zip archive of XML. It may come from anybody, so nothing is unpacked to disk, each part is read in blocks
up to a limit, and a document type declaration, which is what entities need, is refused.

Source: ECMA-376 part 1, chapters 11 (parts) and 17 (WordprocessingML).
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Protocol
from xml.parsers import expat

from genai.data.documents.docx_body import Body
from genai.data.documents.docx_styles import Styles
from genai.data.documents.parsed import ParsedDocument
from genai.errors import DataError

MAX_PART_BYTES = 256 << 20
"""Of one part, unpacked. The text of a thousand pages has some 10 MB."""
MAX_RATIO = 200
"""A part of more than `_SMALL_BYTES` that is packed better than that is a zip bomb. Word's own reach some 50."""
_SMALL_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 16
_DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)
"""What zipfile raises; RuntimeError for members with a password or an unknown method."""
_MAIN_PART = "word/document.xml"
_NAMESPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main ",
    "http://purl.oclc.org/ooxml/wordprocessingml/main ",
)
_FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_RELATIONSHIP = re.compile(rb"<Relationship\b[^>]*>")
_TARGET = re.compile(rb"""\bTarget\s*=\s*["']/?([^"']+)["']""")


class _Handler(Protocol):
    """Takes the elements of one part; names are local ones of WordprocessingML, or `Fallback`."""

    def start(self, name: str, values: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def characters(self, text: str) -> None: ...


def parse_docx(content: bytes) -> ParsedDocument:
    """The text: paragraphs with an empty line between them, list items after a dash, rows of tables with tabs.

    Text boxes, footnotes and endnotes belong to it; headers, footers, comments, tables of contents and what was deleted
    while changes were tracked do not.

    Args:
        content: of the file.

    Raises:
        DataError: it is damaged, is no Word document, or is made to fill the memory.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _parse(archive)
    except (*_DAMAGES, expat.ExpatError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"the Word document is damaged or cut off: {reason}") from error


def _parse(archive: zipfile.ZipFile) -> ParsedDocument:
    names = set(archive.namelist())
    main = _main_part(archive, names)
    if main not in names:
        raise DataError("a zip archive, but no Word document: it has no word/document.xml")
    folder = main.rpartition("/")[0]
    styles = Styles()
    if f"{folder}/styles.xml" in names:
        _read(archive, f"{folder}/styles.xml", styles)
    body = Body(styles)
    for part in (main, f"{folder}/footnotes.xml", f"{folder}/endnotes.xml"):
        if part in names:
            _read(archive, part, body)
    return body.document()


def _main_part(archive: zipfile.ZipFile, names: set[str]) -> str:
    """What the archive says is its document; some programs give it another name."""
    if _MAIN_PART in names or "_rels/.rels" not in names:
        return _MAIN_PART
    with archive.open("_rels/.rels") as stream:
        content = stream.read(_BLOCK_BYTES)
    found = [item for item in _RELATIONSHIP.findall(content) if b'/officeDocument"' in item]
    target = _TARGET.search(found[0]) if found else None
    name = target[1].decode("utf-8", "replace") if target else _MAIN_PART
    return name if name.endswith(".xml") and "word" in name else _MAIN_PART


def _read(archive: zipfile.ZipFile, name: str, handler: _Handler) -> None:
    """Send the elements of a part to a handler."""
    info = archive.getinfo(name)
    if info.file_size > MAX_PART_BYTES or info.file_size > max(_SMALL_BYTES, MAX_RATIO * info.compress_size):
        raise _bomb(name)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = _start(handler.start)
    parser.EndElementHandler = _end(handler.end)
    parser.CharacterDataHandler = handler.characters
    num_bytes = 0
    with archive.open(info) as stream:
        while block := stream.read(_BLOCK_BYTES):
            num_bytes += len(block)
            if num_bytes > MAX_PART_BYTES:  # the size that the archive declares may be a lie
                raise _bomb(name)
            parser.Parse(block, False)
        parser.Parse(b"", True)


def _start(start: Callable[[str, dict[str, str]], None]) -> Callable[[str, dict[str, str]], None]:
    def handle(name: str, attributes: dict[str, str]) -> None:
        local = _local(name)
        if local:
            start(local, {_local(key) or key: value for key, value in attributes.items()})

    return handle


def _end(end: Callable[[str], None]) -> Callable[[str], None]:
    def handle(name: str) -> None:
        local = _local(name)
        if local:
            end(local)

    return handle


def _local(name: str) -> str:
    """The name without its namespace; "" for those of others, which say nothing here."""
    for namespace in _NAMESPACES:
        if name.startswith(namespace):
            return name[len(namespace) :]
    return "Fallback" if name == _FALLBACK else ""


def _refuse_doctype(name: str, system_id: str | None, public_id: str | None, has_internal_subset: int) -> None:
    raise DataError("the Word document has a document type declaration, which no word processor writes")


def _bomb(name: str) -> DataError:
    return DataError(f"the Word document is a zip bomb: {name} unpacks to more than can be text")
