"""One document as the ledger keeps it: cut into chunks that know their place, their words' hash and their tokens."""

from __future__ import annotations

import bisect
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from genai.config.index import ChunkingConfig
from genai.data.chunking import cut
from genai.data.chunking.tokens import Tokens as TextTokens
from genai.errors import DataError

if TYPE_CHECKING:
    from genai.index.interfaces import Document, Section

_NAMESPACE = uuid.UUID("6c7f1c59-6a53-5d2e-9a53-1f3d0c8f5a11")
"""Of the ids of chunks; changing it would make every chunk of every index a new one."""


class Tokenizer(Protocol):
    """What cutting asks of an encoder."""

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut off."""

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end, in characters, of every token."""


@dataclass(frozen=True, kw_only=True)
class CutChunk:
    """A slice of a document's text."""

    id: str
    ordinal: int
    start: int
    end: int
    page: int | None
    heading: str | None
    text: str
    hash: bytes
    tokens: int


@dataclass(frozen=True, kw_only=True)
class CutDocument:
    """A document with its chunks, ready to be written."""

    key: str
    version: str
    hash: bytes
    """Of all that the document says."""
    settings: str
    """How it was read and cut."""
    source: str
    metadata: str
    """JSON."""
    tenant: str | None
    chunks: tuple[CutChunk, ...]


def content_hash(document: Document) -> bytes:
    """SHA-256 over everything that a document says.

    Raises:
        DataError: it holds half a character, or its metadata what JSON has no word for.
    """
    sections = [asdict(section) for section in document.sections]
    texts = [document.key, document.text, _json(document), document.tenant, document.source]
    said = [*texts, document.page_starts, sections]
    try:
        return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).digest()
    except UnicodeEncodeError as error:
        raise DataError("it holds half a character (a surrogate), which is no text", where=document.source) from error


def cut_document(
    document: Document, *, digest: bytes, version: str, settings: str, chunking: ChunkingConfig, tokens: Tokenizer
) -> CutDocument:
    """Cut a document.

    Args:
        document: what to cut.
        digest: its `content_hash`.
        version: of it, by its source.
        settings: fingerprint of how it is read and cut.
        chunking: how to cut; a chunk has no more tokens than the encoder reads.
        tokens: of the encoder.
    """
    offsets = _remembered(tokens.token_offsets)
    pieces = cut(
        document.text,
        offsets,
        name=chunking.name,
        max_tokens=min(chunking.max_tokens, tokens.max_tokens),
        overlap_tokens=chunking.overlap_tokens,
        section_starts=[section.start for section in document.sections],
    )
    counted = TextTokens(document.text, offsets)
    chunks = []
    for ordinal, piece in enumerate(pieces):
        text = document.text[piece.start : piece.end]
        named = hashlib.sha256(text.encode())
        chunks.append(
            CutChunk(
                id=str(uuid.uuid5(_NAMESPACE, f"{document.key}\0{ordinal}\0{named.hexdigest()}")),
                ordinal=ordinal,
                start=piece.start,
                end=piece.end,
                page=page_of(piece.start, document.page_starts),
                heading=heading_of(piece.start, document.sections),
                text=text,
                hash=named.digest(),
                tokens=counted.count(piece.start, piece.end),
            )
        )
    return CutDocument(
        key=document.key,
        version=version,
        hash=digest,
        settings=settings,
        source=document.source,
        metadata=_json(document),
        tenant=document.tenant,
        chunks=tuple(chunks),
    )


def page_of(position: int, page_starts: Sequence[int]) -> int | None:
    """The page, 1 is the first, on which the character at `position` stands; None where there are no pages."""
    return max(1, bisect.bisect_right(page_starts, position)) if page_starts else None


def heading_of(position: int, sections: Sequence[Section]) -> str | None:
    """The headings that the character at `position` stands below, the highest first: "A > B"; None without any."""
    path: list[Section] = []
    for section in sections:
        if section.start > position:
            break
        path = [above for above in path if above.level < section.level]
        path.append(section)
    return " > ".join(section.title for section in path) or None


def settings_hash(values: Mapping[str, Any]) -> str:
    """A short fingerprint of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _remembered(function: Callable[[str], list[tuple[int, int]]]) -> Callable[[str], list[tuple[int, int]]]:
    """`function`, which remembers its last answer: the cutter and we ask for the same text."""
    last: list[tuple[str, list[tuple[int, int]]]] = []

    def ask(text: str) -> list[tuple[int, int]]:
        if not last or last[0][0] is not text:
            last[:] = [(text, function(text))]
        return last[0][1]

    return ask


def _json(document: Document) -> str:
    try:
        return json.dumps(dict(document.metadata), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"its metadata cannot be stored: {error}", where=document.source) from error
