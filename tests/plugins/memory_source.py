"""A source whose rows a test holds in its hands, an encoder that counts, and an index over both."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genai.config.embedding import EmbeddingConfig
from genai.config.index import (
    ChunkingConfig,
    ColumnType,
    EngineConfig,
    ExactConfig,
    IndexConfig,
    IndexSourceConfig,
    SyncConfig,
)
from genai.errors import DataError
from genai.index.engines import open_engine
from genai.index.interfaces import Change, Changes, Document, Engine, VectorQuery, Vectors
from genai.index.ledger import Ledger
from genai.index.sync import SyncReport, sync

DIMENSION = 16


class MemorySource:
    """Rows in memory, with numbered versions like a table's.

    Args:
        feeds: tells only what changed, where it is asked since a state; else everything, always.
    """

    uri = "memory:rows"

    def __init__(self, *, feeds: bool = True) -> None:
        self.feeds = feeds
        self.rows: dict[str, Document] = {}
        self.broken: set[str] = set()
        self.fault: Exception | None = None
        self.columns: Mapping[str, ColumnType] = {"topic": "keyword"}
        self.loaded: list[str] = []
        self._version = 0
        self._log: list[tuple[int, str]] = []

    def put(self, key: str, text: str, **values: Any) -> None:
        """Insert or update a row; `metadata`, `tenant`, `page_starts` and `sections` may be given."""
        self.rows[key] = Document(key=key, text=text, source=f"memory/{key}", **values)
        self._note(key)

    def remove(self, key: str) -> None:
        del self.rows[key]
        self._note(key)

    def position(self) -> Mapping[str, Any]:
        self._check()
        return {"version": self._version}

    def changes(self, state: Mapping[str, Any] | None) -> Changes:
        self._check()
        if state is None or not self.feeds:
            rows = iter([self._upsert(key) for key in self.rows])
            return Changes(state={"version": self._version}, complete=True, rows=rows, total=len(self.rows))
        keys = dict.fromkeys(key for version, key in self._log if version > state["version"])
        rows = iter([self._upsert(key) if key in self.rows else Change(key=key, kind="delete") for key in keys])
        return Changes(state={"version": self._version}, complete=False, rows=rows, total=len(keys))

    def _upsert(self, key: str) -> Change:
        version = hashlib.sha256(repr((self.rows[key], key in self.broken)).encode()).hexdigest()
        return Change(key=key, kind="upsert", version=version, load=partial(self._load, key))

    def _load(self, key: str) -> Document:
        self.loaded.append(key)
        if key in self.broken:
            raise DataError("it cannot be read", where=key)
        return self.rows[key]

    def _note(self, key: str) -> None:
        self._version += 1
        self._log.append((self._version, key))

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


class CountingEncoder:
    """The vector of a text is drawn by its hash; what it was asked for is counted, in a file where one is named.

    Args:
        name: of the model.
        log: gets a line for each text, so that the texts of processes that were killed count as well.
    """

    dimension = DIMENSION
    max_tokens = 64

    def __init__(self, name: str = "hashes", *, log: Path | None = None) -> None:
        self.name = name
        self.texts: list[str] = []
        self.batches: list[int] = []
        self.fault: Exception | None = None
        self._log = log

    @property
    def fingerprint(self) -> str:
        return f"{self.name}-fingerprint"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        if self.fault is not None:
            raise self.fault
        self.texts += texts
        self.batches.append(len(texts))
        if self._log is not None:
            lines = "".join(f"{json.dumps(text)}\n" for text in texts)
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(descriptor, lines.encode())
            os.close(descriptor)
        return self._vectors(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._vectors(texts)

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+", text)]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            seed = hashlib.sha256(f"{self.name}\0{text}".encode()).digest()
            vectors[row] = np.random.default_rng(list(seed)).standard_normal(self.dimension)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_config(folder: Path, **values: Any) -> IndexConfig:
    """The config of an index `rows` below `folder` that follows a table; small batches, a chunk every 4 words."""
    source = IndexSourceConfig(table="memory:rows", primary_key="id", text="text", metadata=["topic"])
    engine: EngineConfig = ExactConfig()
    config = IndexConfig(
        name="rows",
        indexes_dir=str(folder),
        source=source,
        chunking=ChunkingConfig(name="tokens", max_tokens=4),
        embedding=EmbeddingConfig(model="hashes"),
        engine=engine,
        sync=SyncConfig(batch_size=8, poll_s=0.01),
    )
    return replace(config, **values)


class FollowingIndex:
    """An index that follows a `MemorySource`.

    Args:
        folder: for indexes.
        source: by default one that feeds.
        values: of the config, in place of `make_config`'s.
    """

    def __init__(self, folder: Path, source: MemorySource | None = None, **values: Any) -> None:
        self.config = make_config(folder, **values)
        self.source = source or MemorySource()
        self.folder = folder / self.config.name
        self.encoder = CountingEncoder()
        self.others: dict[str, CountingEncoder] = {}
        self.ledger = Ledger.open(self.folder, create=True)

    def engine(self) -> Engine:
        """One more."""
        return open_engine(self.config.engine, self.folder / "engine", index=self.config.name)

    def encoder_of(self, config: EmbeddingConfig) -> CountingEncoder:
        """One for each model."""
        if config.model == self.encoder.name:
            return self.encoder
        return self.others.setdefault(config.model, CountingEncoder(config.model))

    def change_config(self, **values: Any) -> None:
        self.config = replace(self.config, **values)

    def sync(self, **values: Any) -> SyncReport:
        """Once."""
        values.setdefault("encoder_of", self.encoder_of)
        return sync(self.ledger, self.source, self.encoder, self.engine(), self.config, **values)

    def texts(self) -> dict[str, list[str]]:
        """Key -> texts of its chunks, by what the ledger says, after holding the engine against it."""
        assert_whole(self.ledger, self.engine(), self.encoder)
        rows = self.ledger.rows(
            "SELECT d.key, c.text FROM documents d LEFT JOIN chunks c ON c.document = d.number AND c.removed = 0 "
            "WHERE d.removed = 0 ORDER BY d.key, c.ordinal"
        )
        found: dict[str, list[str]] = {}
        for key, text in rows:
            found.setdefault(key, []).extend([] if text is None else [text])
        return found

    def wanted(self) -> dict[str, list[str]]:
        """The same, by what the source says."""
        return {key: list(four_words(row.text)) for key, row in sorted(self.source.rows.items())}

    def close(self) -> None:
        self.ledger.close()


def four_words(text: str) -> Iterator[str]:
    """An independent way to cut a text as `make_config` does."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    for begin in range(0, len(spans), 4):
        some = spans[begin : begin + 4]
        yield text[some[0][0] : some[-1][1]]


def assert_whole(ledger: Ledger, engine: Engine, encoder: CountingEncoder) -> None:
    """What is published is what the ledger holds: ids, vectors, payloads."""
    live = ledger.live()
    assert live is not None and live.token is not None
    assert live.applied == ledger.sequence()
    spec = live.spec(ledger.name)
    writer = engine.writer(spec, live.token)
    try:
        ids = sorted(writer.ids())
    finally:
        writer.close()
    assert ids == sorted(id_ for (id_,) in ledger.rows("SELECT id FROM chunks WHERE removed = 0"))
    assert live.points == len(ids)
    chunks = ledger.chunks(ids)
    reader = engine.reader(spec, live.token)
    try:
        queries = encoder.embed_queries([chunks[id_].text for id_ in ids])
        for id_, hits in zip(ids, reader.search([VectorQuery(vector=q, limit=50) for q in queries]), strict=True):
            assert [hit.score for hit in hits if hit.id == id_ and hit.score > 0.999], id_
    finally:
        reader.close()
