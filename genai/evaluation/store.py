"""Every answer on the disk as soon as it is there: what was asked once is not asked again.

The file is SQLite: one table, which anybody can read to see what was asked and answered.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.errors import DataError
from genai.evaluation.outcome_json import outcome_json, question_json, read_outcome
from genai.evaluation.records import Failure, Outcome, Question
from genai.storage.atomic import explain_full_disk
from genai.storage.sqlite_faults import BUSY_S, explain_sqlite

_FORM = 1
"""Part of every key: raised when outcomes are written in another way."""
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,           -- hash of all that the answer depends on
    question TEXT NOT NULL,         -- JSON
    outcome TEXT NOT NULL           -- JSON
) STRICT
"""
_FIX = "remove it; the questions are asked again"
_KEYS_AT_ONCE = 500
_WRITES_AT_ONCE = 1000


def key_of(fingerprint: str, question: Question) -> str:
    """Names the answer to a question.

    Args:
        fingerprint: of the target: all that its answers depend on beside the question; see `scope_of`.
        question: what is asked.
    """
    return _digest([_FORM, fingerprint, question_json(question)])


def scope_of(run: str, settings: Mapping[str, Any]) -> str:
    """In place of a fingerprint, where a target has none: its answers are then those of one run.

    Args:
        run: its name.
        settings: of the target (`dataclasses.asdict` of its section): others give other answers.
    """
    return _digest([run, settings])


@dataclass(frozen=True)
class _Write:
    """One answer that is to be kept, and where its fate is told."""

    key: str
    question: Question
    outcome: Outcome
    done: Future[None]


class AnswerStore:
    """See `open_store`. May be used from any thread."""

    def __init__(self, path: Path, for_reading: sqlite3.Connection, for_writing: sqlite3.Connection) -> None:
        self._path = path
        self._for_reading = for_reading
        self._for_writing = for_writing
        self._reading = threading.Lock()
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="answers", daemon=True)
        self._writer.start()

    def get(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Those that are there, by key, each marked as `cached`.

        Raises:
            DataError: the file is damaged.
        """
        found: dict[str, Outcome] = {}
        with self._reading, _explained(self._path):
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = self._for_reading.execute(f"SELECT key, outcome FROM answers WHERE key IN ({marks})", some)
                found.update((key, self._read(text)) for key, text in rows)
        return found

    def put(self, key: str, question: Question, outcome: Outcome) -> None:
        """Keep an answer; it is on the disk when this returns. A `Failure` is never kept, and one that is there stays.

        Raises:
            GenaiError: the disk is full, or the file cannot be written.
        """
        self.submit(key, question, outcome).result()

    def submit(self, key: str, question: Question, outcome: Outcome) -> Future[None]:
        """`put` without waiting: the answer is on the disk when what is returned is done, which raises what `put` does.

        Answers that come while the disk is busy are written together.
        """
        done: Future[None] = Future()
        if isinstance(outcome, Failure):
            done.set_result(None)
        else:
            self._waiting.put(_Write(key, question, outcome, done))
        return done

    def close(self) -> None:
        """Wait until everything is written."""
        self._waiting.put(None)
        self._writer.join()

    def _read(self, text: str) -> Outcome:
        try:
            return read_outcome(text)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"the file of answers holds something else: {error}", where=str(self._path), fix=_FIX
            ) from error

    def _write_all(self) -> None:
        """Until `close`: what is waiting, in as few transactions as it takes."""
        is_open = True
        while is_open:
            batch = [self._waiting.get()]
            while len(batch) < _WRITES_AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get())
            is_open = None not in batch  # which `close` puts last
            self._write([write for write in batch if write is not None])

    def _write(self, writes: Sequence[_Write]) -> None:
        """In one transaction; whoever waits is told, also of a failure."""
        try:
            rows = [(write.key, question_json(write.question), outcome_json(write.outcome)) for write in writes]
            with _explained(self._path), self._for_writing:
                self._for_writing.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", rows)
        except Exception as error:  # raised where the answer is waited for
            for write in writes:
                if write.done.set_running_or_notify_cancel():
                    write.done.set_exception(error)
            return
        for write in writes:
            if write.done.set_running_or_notify_cancel():
                write.done.set_result(None)


@contextmanager
def open_store(path: Path) -> Iterator[AnswerStore]:
    """The answers in the file `path`, which is made where it is missing. Several processes may use it.

    Raises:
        DataError: it is damaged, or no such file.
        GenaiError: the disk is full, or the file cannot be written.
    """
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _connected(path) as for_writing:
        with _explained(path):
            for_writing.execute("PRAGMA journal_mode = WAL")
            for_writing.execute("PRAGMA synchronous = FULL")
            for_writing.execute(_TABLE)
            for_writing.execute("SELECT key, question, outcome FROM answers LIMIT 0")
        with _connected(path) as for_reading:
            store = AnswerStore(path, for_reading, for_writing)
            try:
                yield store
            finally:
                store.close()


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that any thread may use, one at a time."""
    with _explained(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    with closing(connection):
        yield connection


def _explained(path: Path) -> AbstractContextManager[None]:
    return explain_sqlite(path, what="the file of answers", fix=_FIX)


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
