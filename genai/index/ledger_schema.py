"""The tables of an index's ledger (SQLite), how a connection to them is made, and what its errors mean.

Write-ahead logging lets readers go on while one process writes. `synchronous=FULL` brings each transaction to the disk
before it counts as done: with one transaction a batch it costs milliseconds, and in return what was embedded survives a
loss of power, not only a killed process.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genai.errors import DataError, GenaiError
from genai.storage import atomic

VERSION = 1
"""Of the tables; in the file as `user_version`."""
BUSY_S = 60.0
"""How long another process that writes is waited for; it holds the file for a batch's transaction."""
_APPLICATION_ID = 0x67656E69
"""Tells a ledger from other SQLite files: the letters "geni"."""

TABLES = """
CREATE TABLE status (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL DEFAULT 0,        -- of the newest change to chunks
    purged INTEGER NOT NULL DEFAULT 0,          -- newest sequence of which tombstones were removed
    purgeable INTEGER NOT NULL DEFAULT 0,       -- all that are fed had published this at the last sync's end
    generations INTEGER NOT NULL DEFAULT 0,     -- how many were ever made: their names are not given out again
    source_uri TEXT,
    source_state TEXT,                          -- JSON, of the last sync that took everything
    settings TEXT                               -- JSON, how that sync cut and read
) STRICT;
CREATE TABLE documents (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    hash BLOB NOT NULL,                         -- of all that the document says
    settings TEXT NOT NULL,                     -- how it was read and cut
    source TEXT NOT NULL,
    metadata TEXT NOT NULL,                     -- JSON
    tenant TEXT,
    removed INTEGER NOT NULL DEFAULT 0          -- 1: it is gone, and stays for the tombstones of its chunks
) STRICT;
CREATE INDEX documents_there ON documents (removed);
CREATE TABLE chunks (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    document INTEGER NOT NULL REFERENCES documents (number),
    ordinal INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    page INTEGER,
    tokens INTEGER NOT NULL,
    sequence INTEGER NOT NULL,                  -- of its last change that engines must know
    removed INTEGER NOT NULL DEFAULT 0,         -- 1: a tombstone
    hash BLOB NOT NULL,                         -- SHA-256 of the text
    heading TEXT,
    text TEXT NOT NULL                          -- last, so that counting need not pass over it
) STRICT;
CREATE INDEX chunks_by_document ON chunks (document);
CREATE INDEX chunks_by_sequence ON chunks (sequence, removed);
CREATE INDEX chunks_by_hash ON chunks (hash);
CREATE INDEX tombstones ON chunks (sequence) WHERE removed = 1;
CREATE TABLE models (
    number INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE embeddings (
    number INTEGER PRIMARY KEY,
    model INTEGER NOT NULL REFERENCES models (number),
    hash BLOB NOT NULL,
    vector BLOB NOT NULL,                       -- float16, little-endian
    UNIQUE (hash, model)
) STRICT;
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    embedding TEXT NOT NULL,                    -- JSON, the section of the config
    state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired')),
    columns TEXT NOT NULL,                      -- JSON, metadata columns with their types
    has_tenants INTEGER NOT NULL,
    shape TEXT NOT NULL,                        -- fingerprint of all that its points were made with beside the encoder
    average_length REAL NOT NULL,
    average_of INTEGER NOT NULL,                -- chunks that there were when the average was taken
    token TEXT,
    applied INTEGER NOT NULL DEFAULT 0,
    points INTEGER NOT NULL DEFAULT 0,          -- in the published state
    created_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_live_generation ON generations (state) WHERE state = 'live';
CREATE TABLE failures (
    key TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    settings TEXT NOT NULL,
    reason TEXT NOT NULL,
    failed_at TEXT NOT NULL
) STRICT;
CREATE TABLE syncs (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    started_at TEXT NOT NULL,
    seconds REAL NOT NULL DEFAULT 0,
    source TEXT,
    from_state TEXT,
    to_state TEXT,
    documents_upserted INTEGER NOT NULL DEFAULT 0,
    documents_deleted INTEGER NOT NULL DEFAULT 0,
    documents_failed INTEGER NOT NULL DEFAULT 0,
    chunks_new INTEGER NOT NULL DEFAULT 0,
    chunks_removed INTEGER NOT NULL DEFAULT 0,
    embeddings_new INTEGER NOT NULL DEFAULT 0,
    embeddings_reused INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    generation TEXT,
    fingerprint TEXT,
    sequence INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO status (one) VALUES (1);
"""


def connect(path: Path, *, create: bool, read_only: bool) -> sqlite3.Connection:
    """A connection to the ledger at `path`, in autocommit mode, to be used by one thread at a time.

    Raises:
        DataError: it is no ledger, is damaged, or was written by a newer genai.
        GenaiError: the disk is full, or the file cannot be opened.
    """
    mode = "ro" if read_only else "rwc" if create else "rw"
    with explain_faults(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            if not read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            _check_version(connection, path, create=create)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def explain_faults(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the file or the disk into one line that says what to do.

    Raises:
        DataError: the file is damaged.
        GenaiError: the disk is full or failing, or another process wrote for too long.
    """
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a constraint of ours: a bug, not the user's fault
    except sqlite3.DatabaseError as error:
        raise _explained(error, path) from error


def _explained(error: sqlite3.DatabaseError, path: Path) -> Exception:
    said = str(error)
    if re.search(r"is full|disk I/O error", said):
        what = f"cannot write {path}: {said} ({atomic.free_bytes(path)} bytes free)"
        return GenaiError(what, fix="make room on that disk, or lift the limit; then sync again: nothing was lost")
    if "locked" in said:
        return GenaiError(f"another process kept writing {path} for {BUSY_S:g} s", fix="wait until it is done")
    if re.search(r"malformed|not a database|corrupt", said):
        fix = f"put a backup in its place, or remove {path.parent} and build the index again"
        return DataError(f"the ledger is damaged: {said}", where=str(path), fix=fix)
    if re.search(r"unable to open|readonly|read-only", said):
        return GenaiError(f"the ledger cannot be opened: {said}", where=str(path), fix="see who owns it")
    return error


def _check_version(connection: sqlite3.Connection, path: Path, *, create: bool) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if create and version == application == 0:
        _make_tables(connection)
    elif application != _APPLICATION_ID:
        raise DataError("this file is no ledger of an index", where=str(path), fix=f"remove {path.parent}")
    elif version > VERSION:
        what = f"a newer genai wrote this ledger (version {version}, here {VERSION})"
        raise DataError(what, where=str(path), fix="upgrade: pip install -U genai-foundry")


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):  # nobody was faster
            for statement in TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
