"""What a sync did, and how the index stands afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genai.index.ledger_records import Failure, Generation
from genai.index.parts import Parts
from genai.index.tally import Slow, Tally


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What a sync did."""

    kind: str
    """sync, upsert, delete or rebuild."""
    changed: bool
    """Whether anything did."""
    number: int | None
    """Of its account in the ledger (`Ledger.syncs`); None where nothing changed."""
    source: str | None
    """URI."""
    from_state: Mapping[str, Any] | None
    """Where the source stood before."""
    to_state: Mapping[str, Any] | None
    """Where it stands now."""
    documents_upserted: int
    documents_deleted: int
    documents_failed: int
    documents_unchanged: int
    chunks_new: int
    chunks_removed: int
    embeddings_new: int
    embeddings_reused: int
    """New chunks whose text was embedded before."""
    tokens: int
    """That were embedded."""
    num_documents: int
    """That the index holds now."""
    num_chunks: int
    seconds: float
    load_s: float
    """Reading and cutting."""
    embed_s: float
    apply_s: float
    """Bringing the engine up."""
    generation: Generation | None
    """That answers now."""
    slowest: tuple[Slow, ...]
    """Documents that took longest to read and cut."""
    failures: tuple[Failure, ...]
    """All documents that cannot be read now."""


def report_of(parts: Parts, tally: Tally, *, seconds: float, apply_s: float = 0.0) -> SyncReport:
    """What a sync did, and how the index stands."""
    ledger, counts = parts.ledger, tally.counts
    live = ledger.live()
    return SyncReport(
        kind=tally.kind,
        changed=tally.number is not None,
        number=tally.number,
        source=parts.source.uri if parts.source is not None else None,
        from_state=tally.from_state,
        to_state=ledger.source_note().state,
        documents_upserted=counts["documents_upserted"],
        documents_deleted=counts["documents_deleted"],
        documents_failed=counts["documents_failed"],
        documents_unchanged=tally.unchanged,
        chunks_new=counts["chunks_new"],
        chunks_removed=counts["chunks_removed"],
        embeddings_new=counts["embeddings_new"],
        embeddings_reused=max(0, counts["chunks_new"] - counts["embeddings_new"]),
        tokens=counts["tokens"],
        num_documents=ledger.num_documents(),
        num_chunks=ledger.num_chunks(),
        seconds=seconds,
        load_s=tally.load_s,
        embed_s=tally.embed_s,
        apply_s=apply_s,
        generation=live,
        slowest=tuple(tally.slowest),
        failures=tuple(ledger.failures()),
    )
