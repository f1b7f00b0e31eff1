"""The ledger of an index: every document, chunk, embedding and generation, in one SQLite file; the truth of the index.

Engines hold copies that can be made again from it. One process at a time changes an index (`Ledger.alone`); any number
read meanwhile, each seeing whole transactions only.

Chunks that are gone stay as tombstones until every generation that is fed has published a state without them, and one
sync longer, so that who still searches an older state finds the texts of what it finds.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from genai.errors import UsageError
from genai.index.ledger_records import (
    CHUNK_FIELDS,
    GENERATION_FIELDS,
    Failure,
    Generation,
    LedgerStats,
    StoredChunk,
    SyncRecord,
    chunk_of,
    generation_of,
)
from genai.index.ledger_schema import connect, explain_faults
from genai.registry import suggest
from genai.storage.atomic import is_temporary, safe_name
from genai.tracking.lock import hold

if TYPE_CHECKING:
    from genai.index.interfaces import Vectors

LEDGER = "index.db"
"""Name of the ledger's file in the folder of an index."""
ENGINE = "engine"
"""Name of the folder beside it that belongs to the engine."""
_ALTERNATIVE = "go on querying, which it does not hinder"
_IDS_A_QUERY = 500
_FROM = "FROM chunks c JOIN documents d ON d.number = c.document"


@dataclass(frozen=True, kw_only=True)
class SourceNote:
    """Where the source stood when the last sync had taken everything, and how that sync cut and read."""

    uri: str | None
    state: Mapping[str, Any] | None
    settings: Mapping[str, Any] | None


class Ledger:
    """One index's ledger, opened. It may be shared by threads: they take turns.

    Args:
        folder: of the index.
        connection: to the file in it, from `connect`.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._path = folder / LEDGER
        self._connection = connection
        self._turn = threading.RLock()
        self._seen_version = self._data_version()

    @classmethod
    def open(cls, folder: Path, *, create: bool = False, read_only: bool = False) -> Ledger:
        """The ledger of the index in `folder`.

        Args:
            folder: `<indexes_dir>/<name>`.
            create: make it where it is absent.
            read_only: nothing will be written.

        Raises:
            UsageError: there is none; the nearest name is suggested.
            DataError: it is damaged, no ledger, or newer than this genai.
        """
        safe_name(folder.name, kind="index name")
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        elif not (folder / LEDGER).is_file():
            raise _absent(folder)
        return cls(folder, connect(folder / LEDGER, create=create, read_only=read_only))

    @property
    def name(self) -> str:
        """Of the index."""
        return self.folder.name

    @property
    def engine_folder(self) -> Path:
        """Where the engine keeps its files."""
        return self.folder / ENGINE

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            self._connection.close()

    def alone(self, *, wait_s: float = 0.4) -> AbstractContextManager[None]:
        """Be the only process that changes this index, until the block is left.

        Args:
            wait_s: how long to wait for another one to be done.

        Raises:
            HeldError: another one is; host and process are named.
        """
        lock = self.folder / "sync.lock"
        return hold(lock, what=f"index '{self.name}'", alternative=_ALTERNATIVE, wait_s=wait_s)

    def following(self) -> AbstractContextManager[None]:
        """Be the only process that follows the source for as long as the block lasts; others may change the index in
        between, one at a time.

        Raises:
            GenaiError: another one does; host and process are named.
        """
        what = f"continuous mode of index '{self.name}'"
        return hold(self.folder / "follow.lock", what=what, alternative=_ALTERNATIVE)

    def changed(self) -> bool:
        """Whether another process (or another opened ledger) changed it since the last call, or since it was opened."""
        version = self._data_version()
        changed, self._seen_version = version != self._seen_version, version
        return changed

    # --- generations --------------------------------------------------------------------------------------------------

    def live(self) -> Generation | None:
        """The generation that answers queries; None when nothing was published yet."""
        rows = self.rows(f"SELECT {GENERATION_FIELDS} FROM generations WHERE state = 'live'")
        return generation_of(rows[0]) if rows else None

    def generations(self) -> list[Generation]:
        """All of them, oldest first."""
        return [generation_of(row) for row in self.rows(f"SELECT {GENERATION_FIELDS} FROM generations ORDER BY number")]

    def generation(self, name: str) -> Generation:
        """The one called `name`.

        Raises:
            UsageError: there is none.
        """
        known = {generation.name: generation for generation in self.generations()}
        if name in known:
            return known[name]
        fix = f"known: {', '.join(known) or 'none yet'}"
        raise UsageError(f"index '{self.name}' has no generation '{name}'", fix=fix)

    # --- chunks and vectors -------------------------------------------------------------------------------------------

    def chunks(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """What the ledger knows of them, tombstones that are still kept among it; unknown ids are left out."""
        found = (chunk_of(row) for row in self._of_ids(f"SELECT {CHUNK_FIELDS} {_FROM} WHERE c.id IN", ids))
        return {chunk.id: chunk for chunk in found}

    def chunks_of(self, key: str) -> list[StoredChunk]:
        """The chunks of a document, in order; none when it is not there."""
        where = "WHERE d.key = ? AND c.removed = 0 ORDER BY c.ordinal"
        return [chunk_of(row) for row in self.rows(f"SELECT {CHUNK_FIELDS} {_FROM} {where}", (key,))]

    def sample(self, limit: int) -> list[StoredChunk]:
        """At most `limit` chunks, spread evenly over all, always the same ones."""
        numbers = [number for (number,) in self.rows("SELECT number FROM chunks WHERE removed = 0 ORDER BY number")]
        stride = max(1, -(-len(numbers) // max(limit, 1)))
        wanted = numbers[::stride]
        select = f"SELECT {CHUNK_FIELDS} {_FROM} WHERE c.number IN"
        return [chunk_of(row) for row in self._of_ids(select, wanted)] if limit > 0 else []

    def vectors(self, ids: Sequence[str], fingerprint: str) -> Vectors:
        """The embeddings of chunks by one encoder.

        Returns:
            (n, dim) float32 in the order of `ids`, as precise as float16; zeros where there is none.
        """
        import numpy as np

        select = (
            "SELECT c.id, e.vector FROM chunks c JOIN models m ON m.fingerprint = ? "
            "JOIN embeddings e ON e.hash = c.hash AND e.model = m.number WHERE c.id IN"
        )
        found = dict(self._of_ids(select, ids, fingerprint))
        dimension = len(next(iter(found.values()), b"")) // 2
        vectors = np.zeros((len(ids), dimension), np.float32)
        for row, id_ in enumerate(ids):
            if id_ in found:
                vectors[row] = np.frombuffer(found[id_], "<f2")
        return vectors

    def lengths(self) -> list[int]:
        """Tokens of every chunk, for a histogram."""
        return [tokens for (tokens,) in self.rows("SELECT tokens FROM chunks WHERE removed = 0")]

    # --- the whole ----------------------------------------------------------------------------------------------------

    def sequence(self) -> int:
        """Of the newest change to chunks."""
        return cast(int, self.rows("SELECT sequence FROM status")[0][0])

    def num_chunks(self) -> int:
        """Chunks that are there."""
        return cast(int, self.rows("SELECT count(*) FROM chunks WHERE removed = 0")[0][0])

    def num_documents(self) -> int:
        """Documents that are there."""
        return cast(int, self.rows("SELECT count(*) FROM documents WHERE removed = 0")[0][0])

    def source_note(self) -> SourceNote:
        """Where the source stood at the last sync."""
        uri, state, settings = self.rows("SELECT source_uri, source_state, settings FROM status")[0]
        return SourceNote(uri=uri, state=_parsed(state), settings=_parsed(settings))

    def failures(self) -> list[Failure]:
        """Documents that could not be read, by key."""
        rows = self.rows("SELECT key, version, reason, failed_at FROM failures ORDER BY key")
        return [Failure(key=key, version=version, reason=reason, failed_at=at) for key, version, reason, at in rows]

    def syncs(self, limit: int | None = None) -> list[SyncRecord]:
        """What syncs did, the newest first."""
        names = list(SyncRecord.__dataclass_fields__)
        limited = -1 if limit is None else limit
        rows = self.rows(f"SELECT {', '.join(names)} FROM syncs ORDER BY number DESC LIMIT ?", (limited,))
        values = (dict(zip(names, row, strict=True)) for row in rows)
        parse = ("from_state", "to_state")
        return [SyncRecord(**value | {name: _parsed(value[name]) for name in parse}) for value in values]

    def stats(self) -> LedgerStats:
        """Counts of everything, of one moment."""
        with self.reading():
            chunks, tombstones, tokens = self.rows(
                "SELECT count(*) - sum(removed), sum(removed), sum(tokens * (1 - removed)) FROM chunks"
            )[0]
            embeddings = self.rows(
                "SELECT m.fingerprint, count(e.number) FROM models m LEFT JOIN embeddings e ON e.model = m.number "
                "GROUP BY m.number ORDER BY m.number"
            )
            note = self.source_note()
            return LedgerStats(
                documents=self.num_documents(),
                chunks=chunks or 0,
                tombstones=tombstones or 0,
                tokens=tokens or 0,
                embeddings=dict(embeddings),
                failures=self.rows("SELECT count(*) FROM failures")[0][0],
                sequence=self.sequence(),
                source=note.uri,
                source_state=note.state,
                ledger_bytes=sum(path.stat().st_size for path in self.folder.glob(f"{LEDGER}*")),
                live=self.live(),
            )

    # --- transactions -------------------------------------------------------------------------------------------------

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows that a SELECT gives."""
        with self._turn, explain_faults(self._path):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is read within the block is of one moment; the block holds up other threads, and no process."""
        with self._turn, explain_faults(self._path):
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything written within the block is there afterwards, or nothing when it raises.

        Raises:
            GenaiError: the disk is full, or another process wrote for too long; nothing was written.
        """
        with self._turn, explain_faults(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _of_ids(self, select: str, ids: Sequence[str | int | bytes], *values: Any) -> Iterator[Any]:
        for begin in range(0, len(ids), _IDS_A_QUERY):
            some = ids[begin : begin + _IDS_A_QUERY]
            yield from self.rows(f"{select} ({','.join('?' * len(some))})", (*values, *some))

    def _data_version(self) -> int:
        return cast(int, self.rows("PRAGMA data_version")[0][0])


def list_indexes(indexes_dir: Path) -> list[str]:
    """Names of the indexes below a folder."""
    if not indexes_dir.is_dir():
        return []
    folders = (path for path in indexes_dir.iterdir() if not is_temporary(path.name))
    return sorted(path.name for path in folders if (path / LEDGER).is_file())


def _absent(folder: Path) -> UsageError:
    known = list_indexes(folder.parent)
    near = suggest(folder.name, known)
    fix = f"did you mean '{near}'?" if near else f"known: {', '.join(known[:10]) or 'none yet'}"
    return UsageError(f"there is no index '{folder.name}' in {folder.parent}", fix=fix)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
