"""What a ledger tells about an index, as plain frozen values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from genai.config.embedding import EmbeddingConfig
from genai.config.index import ColumnType

if TYPE_CHECKING:
    from genai.index.interfaces import Spec

GenerationState = Literal["building", "ready", "live", "retired"]
GENERATION_FIELDS = (
    "name, fingerprint, dimension, embedding, state, columns, has_tenants, shape, average_length, average_of, token, "
    "applied, points, created_at"
)
CHUNK_FIELDS = (
    "c.id, d.key, c.ordinal, c.text, c.start, c.end, c.page, c.heading, d.source, d.metadata, d.tenant, c.sequence, "
    "c.removed, c.hash, c.tokens"
)
"""Of `chunks c JOIN documents d ON d.number = c.document`."""
_READ = json.JSONDecoder().raw_decode
"""From JSON that we wrote ourselves, and that begins at once, to the values in it: a search reads that of every
result."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """All chunks as points of one encoder's vectors."""

    name: str
    """Safe as a part of a path."""
    fingerprint: str
    """Of the encoder."""
    dimension: int
    """Numbers a vector."""
    state: GenerationState
    """building: embeddings or points are missing; ready: whole, and fed by every sync; live: answers queries, and is
    fed; retired: was live, and is brought up to date before it is again."""
    embedding: Mapping[str, Any]
    """The section `embedding` of the config, secrets as references."""
    columns: Mapping[str, ColumnType]
    """Of the metadata."""
    has_tenants: bool
    """Whether every document belongs to somebody."""
    shape: str
    """Fingerprint of all that its points were made with beside the encoder."""
    average_length: float
    """BM25 terms a chunk, frozen when its points were made."""
    average_of: int
    """How many chunks there were then."""
    token: str | None
    """Of the engine's published state; None before the first one."""
    applied: int
    """The sequence up to which changes are in that state."""
    points: int
    """Chunks in that state."""
    created_at: str
    """ISO 8601 in UTC."""

    @property
    def embedding_config(self) -> EmbeddingConfig:
        """`embedding` as the config class."""
        return EmbeddingConfig(**self.embedding)

    def spec(self, index: str) -> Spec:
        """As an engine wants it; `index` is the index's name."""
        from genai.index.interfaces import Spec

        return Spec(
            index=index,
            generation=self.name,
            dimension=self.dimension,
            columns=self.columns,
            has_tenants=self.has_tenants,
        )


@dataclass(frozen=True, kw_only=True)
class StoredChunk:
    """A chunk with what its document says."""

    id: str
    """A UUID, made of key, ordinal and text."""
    key: str
    """Of the document."""
    ordinal: int
    """0 is the document's first chunk."""
    text: str
    """A slice of the document's text."""
    start: int
    """First character of it in the document."""
    end: int
    """First character after it."""
    page: int | None
    """1 is the first."""
    heading: str | None
    """"A > B" """
    source: str
    """Where the document stands, for people."""
    metadata: dict[str, Any]
    """The declared columns; those of the document's present version, also for a tombstone."""
    tenant: str | None
    """Whom it belongs to."""
    sequence: int
    """Of its last change."""
    removed: bool
    """A tombstone: no new state of an engine holds it."""
    hash: bytes
    """SHA-256 of the text."""
    tokens: int
    """Of the encoder that it was cut for."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A document that could not be read; an older version of it stays in the index."""

    key: str
    version: str
    """That failed; another one is tried again."""
    reason: str
    """One line."""
    failed_at: str
    """ISO 8601 in UTC."""


@dataclass(frozen=True, kw_only=True)
class SyncRecord:
    """What one sync did: the lineage from the source's version to the generation that answers."""

    number: int
    """1 is the first."""
    kind: str
    """sync, upsert, delete, rebuild."""
    outcome: str
    """done, running, or cut off by a kill or an error (what it had committed stays)."""
    started_at: str
    """ISO 8601 in UTC."""
    seconds: float
    """How long it took."""
    source: str | None
    """URI."""
    from_state: Mapping[str, Any] | None
    """Where the source stood before (table id, version, ...)."""
    to_state: Mapping[str, Any] | None
    """Where it stood when the sync had taken everything."""
    documents_upserted: int
    documents_deleted: int
    documents_failed: int
    chunks_new: int
    chunks_removed: int
    embeddings_new: int
    embeddings_reused: int
    tokens: int
    """Of the chunks that were embedded."""
    generation: str | None
    """That answered afterwards."""
    fingerprint: str | None
    """Of its encoder."""
    sequence: int
    """Of the chunks, afterwards."""


@dataclass(frozen=True, kw_only=True)
class LedgerStats:
    """Counts of an index."""

    documents: int
    chunks: int
    tombstones: int
    """Chunks that are kept only for states that were published before they went."""
    tokens: int
    """Of all chunks."""
    embeddings: Mapping[str, int]
    """Fingerprint of an encoder -> vectors."""
    failures: int
    """Documents that could not be read."""
    sequence: int
    """Of the newest change."""
    source: str | None
    """URI."""
    source_state: Mapping[str, Any] | None
    """Where the source stood at the last sync."""
    ledger_bytes: int
    """Of the ledger's files."""
    live: Generation | None


def generation_of(row: sqlite3.Row | Sequence[Any]) -> Generation:
    """A row of `GENERATION_FIELDS`."""
    return Generation(
        name=row[0],
        fingerprint=row[1],
        dimension=row[2],
        embedding=json.loads(row[3]),
        state=row[4],
        columns=json.loads(row[5]),
        has_tenants=bool(row[6]),
        shape=row[7],
        average_length=row[8],
        average_of=row[9],
        token=row[10],
        applied=row[11],
        points=row[12],
        created_at=row[13],
    )


def chunk_of(row: Sequence[Any]) -> StoredChunk:
    """A row of `CHUNK_FIELDS`."""
    metadata, _ = _READ(row[9])
    return StoredChunk(
        id=row[0],
        key=row[1],
        ordinal=row[2],
        text=row[3],
        start=row[4],
        end=row[5],
        page=row[6],
        heading=row[7],
        source=row[8],
        metadata=metadata,
        tenant=row[10],
        sequence=row[11],
        removed=bool(row[12]),
        hash=row[13],
        tokens=row[14],
    )
