"""What the commands of `genai index` hand back: plain data for result.json and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai.index.ledger import Ledger
    from genai.index.ledger_records import Failure, Generation
    from genai.index.sync import SyncReport

_NUM_SHOWN = 20
_ACCOUNT = (
    *("number", "documents_upserted", "documents_deleted", "documents_failed", "documents_unchanged"),
    *("chunks_new", "chunks_removed", "embeddings_new", "embeddings_reused", "tokens"),
    *("seconds", "load_s", "embed_s", "apply_s"),
)
"""Of a `SyncReport`."""


@dataclass(frozen=True, kw_only=True)
class IndexResult:
    """An index after something was done to it."""

    index: str
    """Its name."""
    path: str
    """Its folder."""
    did: str
    """sync, upsert, delete, rebuild or rollback; nothing: it was up to date."""
    documents: int
    """In it now."""
    chunks: int
    """In it now."""
    source: str | None
    """What it follows."""
    position: Mapping[str, Any]
    """Where the source stood: the version of a table, ..."""
    generation: str | None
    """The generation that answers."""
    embedding: str | None
    """Its encoder's model."""
    fingerprint: str | None
    """Of its encoder."""
    account: Mapping[str, Any]
    """What was done: documents, chunks, embeddings, tokens, seconds; empty when nothing was."""
    failures: Sequence[Mapping[str, str]] = ()
    """Documents that could not be read, the first of them, each with its reason."""
    num_failures: int = 0
    """How many there are."""
    run: str | None = None
    """Name of the run, where there is one."""
    report: str | None = None
    """The HTML report, where there is one."""

    def to_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        return asdict(self)


def result_of(
    ledger: Ledger, did: str, report: SyncReport | None = None, *, run: str | None = None, html: str | None = None
) -> IndexResult:
    """What an index holds after something was done to it.

    Args:
        ledger: of the index.
        did: what was done.
        report: of it, where documents were taken over or removed.
        run: name of the run.
        html: its report.
    """
    note, live, failures = ledger.source_note(), ledger.live(), ledger.failures()
    return IndexResult(
        index=ledger.name,
        path=str(ledger.folder),
        did=did,
        documents=ledger.num_documents(),
        chunks=ledger.num_chunks(),
        source=note.uri,
        position=position_of(note.state),
        generation=live.name if live else None,
        embedding=live.embedding_config.model if live else None,
        fingerprint=live.fingerprint if live else None,
        account=_account(report) if report else {},
        failures=[failure_row(failure) for failure in failures[:_NUM_SHOWN]],
        num_failures=len(failures),
        run=run,
        report=html,
    )


def _account(report: SyncReport) -> dict[str, Any]:
    counts = {name: getattr(report, name) for name in _ACCOUNT}
    return {**counts, "from": position_of(report.from_state), "to": position_of(report.to_state)}


def position_of(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """The short plain values of a source's state: a table's id and version, and no list of thousands of files."""
    return {name: value for name, value in (state or {}).items() if isinstance(value, str | int | float | bool)}


def failure_row(failure: Failure) -> dict[str, str]:
    """A document that could not be read."""
    return {"key": failure.key, "reason": failure.reason, "failed_at": failure.failed_at}


def generation_row(generation: Generation) -> dict[str, Any]:
    """A generation as the command line shows it."""
    return {
        "name": generation.name,
        "state": generation.state,
        "model": generation.embedding_config.model,
        "embedding": dict(generation.embedding),
        "fingerprint": generation.fingerprint,
        "dimension": generation.dimension,
        "applied": generation.applied,
        "token": generation.token,
        "created_at": generation.created_at,
    }


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One index of a list."""

    index: str
    documents: int
    chunks: int
    source: str | None
    model: str | None
    """Of the generation that answers."""
    synced_at: str | None
    """When the last sync began that was carried through, ISO 8601."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class IndexStats:
    """What an index holds."""

    index: str
    path: str
    documents: int
    chunks: int
    tombstones: int
    """Chunks that are gone, kept for who still searches an older state."""
    tokens: int
    """Of all chunks."""
    embeddings: Mapping[str, int]
    """Fingerprint of an encoder -> vectors."""
    sequence: int
    """Of the newest change."""
    source: str | None
    position: Mapping[str, Any]
    """Where the source stood at the last sync."""
    columns: Mapping[str, str]
    """Metadata column -> type."""
    has_tenants: bool
    engine: str
    """Which."""
    generation: Mapping[str, Any] | None
    """The one that answers."""
    ledger_bytes: int
    engine_bytes: int
    """Of the files of the engine in the index's folder; 0 for one that is elsewhere."""
    holder: str | None
    """The process that changes it at this moment."""
    failures: Sequence[Mapping[str, str]]
    """Documents that could not be read."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class IndexVersions:
    """How an index came to be what it is."""

    index: str
    generations: Sequence[Mapping[str, Any]]
    """Oldest first."""
    syncs: Sequence[Mapping[str, Any]]
    """Newest first."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a comparison of engine and ledger found."""

    index: str
    generation: str | None
    """The one that answers."""
    ok: bool
    """Nothing is wrong."""
    problems: Sequence[str]
    """One line each."""
    num_chunks: int
    """In the ledger."""
    num_points: int | None
    """In the engine; None where it cannot be read."""
    num_searched: int
    """Of a sample, searched by their own vectors."""
    num_embedded: int
    """Of that sample, embedded again."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """An index that is gone, or would be."""

    index: str
    path: str
    size_bytes: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
