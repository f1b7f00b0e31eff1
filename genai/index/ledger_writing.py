"""What one transaction changes in a ledger: documents with their chunks, embeddings, failures, where the source stands.

Whatever changes chunks in one transaction gets one new sequence, which the applier goes by.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from genai.index.cutting import CutChunk, CutDocument
from genai.index.ledger import Ledger

_VALUES_A_QUERY = 500
_COUNTS = frozenset(
    {
        *("documents_upserted", "documents_deleted", "documents_failed", "chunks_new", "chunks_removed"),
        *("embeddings_new", "tokens"),
    }
)


@dataclass(frozen=True, kw_only=True)
class KnownDocument:
    """What the ledger knows of a document before a sync looks at it again."""

    number: int
    version: str
    hash: bytes
    settings: str


@dataclass(frozen=True, kw_only=True)
class Put:
    """What changed with a document."""

    chunks_new: int
    chunks_removed: int


class Batch:
    """One transaction; see `batch`.

    Args:
        connection: within a transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._sequence: int | None = None

    @property
    def sequence(self) -> int:
        """Of the changes in this batch, given out when the first one is made."""
        if self._sequence is None:
            self._connection.execute("UPDATE status SET sequence = sequence + 1")
            (self._sequence,) = self._connection.execute("SELECT sequence FROM status").fetchone()
        assert self._sequence is not None
        return self._sequence

    def put(self, document: CutDocument) -> Put:
        """Write a document and what changed of its chunks; what is the same stays as it is."""
        said = (document.metadata, document.tenant)
        before = self._connection.execute(
            "SELECT metadata, tenant FROM documents WHERE key = ? AND removed = 0", (document.key,)
        ).fetchone()
        (number,) = self._connection.execute(
            "INSERT INTO documents (key, version, hash, settings, source, metadata, tenant) VALUES (?,?,?,?,?,?,?) "
            "ON CONFLICT (key) DO UPDATE SET version = excluded.version, hash = excluded.hash, "
            "settings = excluded.settings, source = excluded.source, metadata = excluded.metadata, "
            "tenant = excluded.tenant, removed = 0 RETURNING number",
            (document.key, document.version, document.hash, document.settings, document.source, *said),
        ).fetchone()
        self._connection.execute("DELETE FROM failures WHERE key = ?", (document.key,))
        return self._put_chunks(number, document.chunks, payload_changed=before is not None and before != said)

    def keep(self, known: KnownDocument, *, version: str, settings: str) -> None:
        """The document says the same, but has another version or was looked at with other settings."""
        values = (version, settings, known.number)
        self._connection.execute("UPDATE documents SET version = ?, settings = ? WHERE number = ?", values)

    def remove(self, number: int) -> int:
        """A document is gone; returns how many of its chunks went."""
        self._connection.execute("UPDATE documents SET removed = 1 WHERE number = ?", (number,))
        gone = self._connection.execute(
            "UPDATE chunks SET removed = 1, sequence = ? WHERE document = ? AND removed = 0", (self.sequence, number)
        )
        return gone.rowcount

    def forget_failure(self, key: str) -> None:
        """The document that failed is gone, or came well."""
        self._connection.execute("DELETE FROM failures WHERE key = ?", (key,))

    def fail(self, key: str, *, version: str, settings: str, reason: str) -> None:
        """A document could not be read."""
        values = (key, version, settings, reason, now())
        self._connection.execute(
            "INSERT OR REPLACE INTO failures (key, version, settings, reason, failed_at) VALUES (?,?,?,?,?)",
            [value.encode(errors="backslashreplace").decode() for value in values],
        )

    def add_embeddings(self, fingerprint: str, vectors: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep vectors of one encoder: pairs of a text's hash and float16 numbers."""
        model = self._model(fingerprint)
        self._connection.executemany(
            "INSERT OR IGNORE INTO embeddings (model, hash, vector) VALUES (?,?,?)",
            ((model, digest, vector) for digest, vector in vectors),
        )

    def note_source(self, uri: str, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """The source stood at `state` when everything of it had been taken."""
        self._connection.execute(
            "UPDATE status SET source_uri = ?, source_state = ?, settings = ?",
            (uri, json.dumps(state), json.dumps(settings)),
        )

    def begin_sync(self, kind: str, *, source: str | None, from_state: Mapping[str, Any] | None) -> int:
        """Open an account of what is done, and close those that a kill left open; gives its number."""
        self._connection.execute("UPDATE syncs SET outcome = 'cut off' WHERE outcome = 'running'")
        inserted = self._connection.execute(
            "INSERT INTO syncs (kind, outcome, started_at, source, from_state) VALUES (?, 'running', ?, ?, ?)",
            (kind, now(), source, None if from_state is None else json.dumps(from_state)),
        )
        assert inserted.lastrowid is not None
        return inserted.lastrowid

    def count(self, sync: int, counts: Mapping[str, int]) -> None:
        """Add to the account of a sync."""
        assert counts.keys() <= _COUNTS
        adding = ", ".join(f"{name} = {name} + :{name}" for name in counts)
        if adding:
            self._connection.execute(f"UPDATE syncs SET {adding} WHERE number = :sync", {**counts, "sync": sync})

    def end_sync(self, sync: int, *, seconds: float, to_state: Mapping[str, Any] | None) -> None:
        """Close the account."""
        self._connection.execute(
            "UPDATE syncs SET outcome = 'done', seconds = ?, to_state = ?, "
            "embeddings_reused = max(0, chunks_new - embeddings_new), "
            "sequence = (SELECT sequence FROM status), "
            "generation = (SELECT name FROM generations WHERE state = 'live'), "
            "fingerprint = (SELECT fingerprint FROM generations WHERE state = 'live') WHERE number = ?",
            (seconds, None if to_state is None else json.dumps(to_state), sync),
        )

    def purge(self) -> int:
        """Remove the tombstones that no fed generation needed at the end of the last sync; returns how many.

        Their embeddings go with them, unless another chunk says the same.
        """
        connection = self._connection
        (upto,) = connection.execute("SELECT purgeable FROM status").fetchone()
        gone = connection.execute(
            "DELETE FROM chunks INDEXED BY tombstones WHERE removed = 1 AND sequence <= ? RETURNING hash, document",
            (upto,),
        ).fetchall()
        for digest in {digest for digest, _ in gone}:
            connection.execute(
                "DELETE FROM embeddings WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM chunks WHERE hash = ?1)",
                (digest,),
            )
        for number in {number for _, number in gone}:
            connection.execute(
                "DELETE FROM documents WHERE number = ?1 AND removed = 1 "
                "AND NOT EXISTS (SELECT 1 FROM chunks WHERE document = ?1)",
                (number,),
            )
        if gone:
            connection.execute("UPDATE status SET purged = max(purged, ?)", (upto,))
        connection.execute(
            "UPDATE status SET purgeable = coalesce((SELECT min(applied) FROM generations "
            "WHERE state IN ('live', 'ready')), 0)"
        )
        return len(gone)

    def remove_orphans(self) -> int:
        """Remove embeddings that no chunk has; kills and swaps that were given up may leave some. Returns how many."""
        return self._connection.execute(
            "DELETE FROM embeddings WHERE NOT EXISTS (SELECT 1 FROM chunks c WHERE c.hash = embeddings.hash)"
        ).rowcount

    def _put_chunks(self, document: int, chunks: Sequence[CutChunk], *, payload_changed: bool) -> Put:
        known = {
            row[0]: row[1:]
            for row in self._connection.execute(
                "SELECT id, removed, start, end, page, heading FROM chunks WHERE document = ?", (document,)
            )
        }
        new = 0
        for chunk in chunks:
            place = (chunk.start, chunk.end, chunk.page, chunk.heading)
            removed, *old_place = known.pop(chunk.id, (None, None))
            if removed is None:
                self._insert(document, chunk)
                new += 1
            elif removed or payload_changed:
                self._connection.execute(
                    "UPDATE chunks SET removed = 0, sequence = ?, start = ?, end = ?, page = ?, heading = ? "
                    "WHERE id = ?",
                    (self.sequence, *place, chunk.id),
                )
                new += removed
            elif tuple(old_place) != place:
                values = (*place, chunk.id)
                sql = "UPDATE chunks SET start = ?, end = ?, page = ?, heading = ? WHERE id = ?"
                self._connection.execute(sql, values)
        gone = [id_ for id_, (removed, *_) in known.items() if not removed]
        for id_ in gone:
            self._connection.execute("UPDATE chunks SET removed = 1, sequence = ? WHERE id = ?", (self.sequence, id_))
        return Put(chunks_new=new, chunks_removed=len(gone))

    def _insert(self, document: int, chunk: CutChunk) -> None:
        place = (chunk.ordinal, chunk.start, chunk.end, chunk.page, chunk.heading)
        self._connection.execute(
            "INSERT INTO chunks (id, document, ordinal, start, end, page, heading, text, hash, tokens, sequence) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (chunk.id, document, *place, chunk.text, chunk.hash, chunk.tokens, self.sequence),
        )

    def _model(self, fingerprint: str) -> int:
        self._connection.execute("INSERT OR IGNORE INTO models (fingerprint) VALUES (?)", (fingerprint,))
        select = "SELECT number FROM models WHERE fingerprint = ?"
        (number,) = self._connection.execute(select, (fingerprint,)).fetchone()
        assert isinstance(number, int)
        return number


@contextmanager
def batch(ledger: Ledger) -> Iterator[Batch]:
    """A transaction: everything done with the batch is there afterwards, or nothing when the block raises."""
    with ledger.transaction() as connection:
        yield Batch(connection)


def known_documents(ledger: Ledger, keys: Sequence[str]) -> dict[str, KnownDocument]:
    """Those of `keys` that are there."""
    found = {}
    for some in _portions(keys):
        rows = ledger.rows(
            "SELECT key, number, version, hash, settings FROM documents WHERE removed = 0 "
            f"AND key IN ({','.join('?' * len(some))})",
            some,
        )
        for key, number, version, digest, settings in rows:
            found[key] = KnownDocument(number=number, version=version, hash=digest, settings=settings)
    return found


def failed_versions(ledger: Ledger) -> dict[str, tuple[str, str]]:
    """Key -> version and settings of documents that could not be read."""
    rows = ledger.rows("SELECT key, version, settings FROM failures")
    return {key: (version, settings) for key, version, settings in rows}


def document_numbers(ledger: Ledger) -> list[int]:
    """Of all documents that are there."""
    return [number for (number,) in ledger.rows("SELECT number FROM documents WHERE removed = 0 ORDER BY number")]


def missing_embeddings(ledger: Ledger, fingerprint: str, hashes: Sequence[bytes]) -> list[bytes]:
    """Those of `hashes`, each once and in their order, that the encoder was not asked for yet."""
    wanted = list(dict.fromkeys(hashes))
    there: set[bytes] = set()
    for some in _portions(wanted):
        rows = ledger.rows(
            "SELECT e.hash FROM embeddings e JOIN models m ON m.number = e.model WHERE m.fingerprint = ? "
            f"AND e.hash IN ({','.join('?' * len(some))})",
            (fingerprint, *some),
        )
        there.update(digest for (digest,) in rows)
    return [digest for digest in wanted if digest not in there]


def now() -> str:
    """The present moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _portions(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(values), _VALUES_A_QUERY):
        yield values[begin : begin + _VALUES_A_QUERY]
