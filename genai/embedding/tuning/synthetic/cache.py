"""Every answer of a generator, on the disk before the next prompt is put: what was asked once is not asked again.

The file is SQLite: one table, which anybody can read to see what was asked and answered.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from genai.config.embed_finetune import GeneratorConfig
from genai.storage.atomic import explain_full_disk
from genai.storage.sqlite_faults import BUSY_S, explain_sqlite

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,           -- hash of generator, prompt, seed and sampling
    generator TEXT NOT NULL,
    prompt TEXT NOT NULL,
    seed INTEGER NOT NULL,
    answer TEXT NOT NULL
) STRICT
"""
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a generator is asked, and all that its answer depends on."""

    text: str
    seed: int
    kind: str
    """Prompts of a kind begin alike and are put together."""

    def key(self, generator: str, config: GeneratorConfig) -> str:
        """Names the answer.

        Args:
            generator: its name.
            config: how it draws.
        """
        parts = [generator, self.text, self.seed, config.max_new_tokens, config.temperature, config.top_p]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """As it is kept."""

    key: str
    generator: str
    prompt: Prompt
    text: str


class AnswerCache:
    """See `open_cache`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """The answers that are there, by key."""
        wanted, found = list(keys), dict[str, str]()
        with _explained(self._path):
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                found.update(
                    self._connection.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", some).fetchall()
                )
        return found

    def put(self, answers: Sequence[Answer]) -> None:
        """Keep answers; they are on the disk when this returns."""
        rows = [
            (each.key, each.generator, each.prompt.text, each.prompt.seed, _storable(each.text)) for each in answers
        ]
        with _explained(self._path), self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", rows)


@contextmanager
def open_cache(path: Path) -> Iterator[AnswerCache]:
    """The answers in the file `path`, which is made where it is missing. Several processes may use it.

    Raises:
        DataError: it is damaged, or no such file.
        GenaiError: the disk is full, or the file cannot be written.
    """
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _explained(path):
        connection = sqlite3.connect(path, timeout=BUSY_S)
    try:
        with _explained(path), connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_TABLE)
            connection.execute("SELECT key, generator, prompt, seed, answer FROM answers LIMIT 0")
        yield AnswerCache(path, connection)
    finally:
        connection.close()


def answers_there(path: Path, keys: Iterable[str]) -> set[str]:
    """Which of the keys the file `path` has an answer to; it is not made where it is missing."""
    if not path.is_file():
        return set()
    with open_cache(path) as cache:
        return set(cache.get(keys))


def _explained(path: Path) -> AbstractContextManager[None]:
    return explain_sqlite(path, what="the file of answers", fix="remove it; the queries are made again")


def _storable(text: str) -> str:
    """SQLite keeps UTF-8: half a surrogate pair, which JSON can bring, is none."""
    return text.encode("utf-8", "replace").decode()
