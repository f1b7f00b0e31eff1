"""Scores that were expensive, kept on disk: a run that goes on, or the next one, need not compute them again."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from genai.errors import DataError
from genai.storage.atomic import explain_full_disk

_AT_ONCE = 500
"""Keys a query: SQLite takes no more than 999 values in old versions."""
_WAIT_S = 60.0
"""How long another process may be writing."""


class ScoreCache:
    """Scores of texts for queries in one SQLite file; several processes may share it.

    A write is there as a whole or not at all, whatever happens to the process.

    Args:
        file: made where it is missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._connected() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score REAL) WITHOUT ROWID")

    def read(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Those scores that are there.

        Raises:
            DataError: the file is damaged, or somebody else holds it.
        """
        found: dict[bytes, float] = {}
        with self._connected() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                some = list(keys[start : start + _AT_ONCE])
                marks = ",".join("?" * len(some))
                found.update(connection.execute(f"SELECT key, score FROM scores WHERE key IN ({marks})", some))
        return found

    def write(self, scores: Mapping[bytes, float]) -> None:
        """Add scores; one that is there already stays.

        Raises:
            DataError: see `read`.
            GenaiError: the disk is full.
        """
        with explain_full_disk(self._file), self._connected() as connection:
            connection.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", scores.items())

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, so that it may be made in any thread."""
        try:
            with closing(sqlite3.connect(self._file, timeout=_WAIT_S)) as connection, connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"the kept scores cannot be used: {error}", where=str(self._file), fix="remove it, it is made again"
            ) from error


def key_of(query: str, text: str) -> bytes:
    """Names a query and a text, 16 bytes."""
    first = query.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(len(first).to_bytes(8, "little") + first, digest_size=16)
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()
