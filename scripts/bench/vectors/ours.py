"""genai's own engines behind their Protocol, and its whole index: ledger, engine, fusion, texts."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vectors.data import COLUMNS, DIM, SEED, SHARES, K, pool, recall
from vectors.timing import each_query

EFFORTS = {"qdrant_edge": (32, 64, 128), "exact": (0,)}
"""Candidates of the graph that are tried."""
_POINTS_AT_ONCE = 2000
_GRAPH_FROM = 1000
_SENTENCES, _WORDS = 4, 6
"""Of a chunk's text, of a query."""


# --- an engine alone --------------------------------------------------------------------------------------------------


def build_engine(name: str, base: Any, folder: Path) -> None:
    """Dense vectors only, as the other engines hold."""
    from genai.index.interfaces import Point, SparseVector

    words = SparseVector(indices=np.zeros(0, np.uint32), values=np.zeros(0, np.float32))
    writer = open_ours(name, folder).writer(spec(), None)
    for start in range(0, len(base), _POINTS_AT_ONCE):
        rows = np.array(base[start : start + _POINTS_AT_ONCE])
        points = [
            Point(id=point_id(start + number), dense=vector, sparse=words, payload={})
            for number, vector in enumerate(rows)
        ]
        writer.upsert(points)
    (folder / "token").write_text(writer.publish())
    writer.close()


def open_engine_search(name: str, folder: Path, effort: int) -> Callable[[Any, int], list[int]]:
    from genai.index.interfaces import VectorQuery

    reader = open_ours(name, folder, effort).reader(spec(), (folder / "token").read_text())

    def search(query: Any, effort: int) -> list[int]:
        return [row_of(hit.id) for hit in reader.search([VectorQuery(vector=query, limit=K)])[0]]

    return search


def open_ours(name: str, folder: Path, effort: int = 64) -> Any:
    from genai.config.index import ExactConfig, HnswConfig, QdrantEdgeConfig
    from genai.index.engines import open_engine

    # Its graph is what is compared, also where so few points are usually compared one by one.
    edge = QdrantEdgeConfig(hnsw=HnswConfig(ef=effort), exact_below=_GRAPH_FROM)
    return open_engine(edge if name == "qdrant_edge" else ExactConfig(), folder, index="bench")


def spec() -> Any:
    from genai.index.interfaces import Spec

    return Spec(index="bench", generation="g1", dimension=DIM, columns={})


def point_id(row: int) -> str:
    return str(uuid.UUID(int=row + 1))


def row_of(point: str) -> int:
    return uuid.UUID(point).int - 1


# --- a whole index ----------------------------------------------------------------------------------------------------


def build_index(settings: Mapping[str, Any]) -> None:
    """Everything but reading a source and embedding: ledger, words, points with columns."""
    from genai.index.engines import open_engine
    from genai.index.ledger import Ledger
    from genai.index.sync import upsert

    folder, config = Path(settings["folder"]) / "index" / "bench", index_config(settings)
    with Ledger.open(folder, create=True) as ledger:
        engine = open_engine(config.engine, ledger.engine_folder, index="bench")
        upsert(ledger, documents(settings), GivenVectors(settings), engine, config)


def search_index(settings: Mapping[str, Any]) -> dict[str, float]:
    """Dense, filtered, by words and hybrid; texts and metadata of the results included."""
    from genai.index.engines import open_engine
    from genai.index.search import Index

    folder, config, data = Path(settings["folder"]) / "index" / "bench", index_config(settings), Path(settings["data"])
    encoder = GivenVectors(settings)
    engine = open_engine(config.engine, folder / "engine", index="bench")
    index = Index.open(folder, config, encoder_of=lambda _: encoder, engine=engine, reranker=None)
    truth = np.load(data / "truth.npz")
    found: dict[str, float] = {}

    def measure(kind: str, queries: Sequence[Any], true: Any = None, **how: Any) -> None:
        answers, took = each_query(lambda query: index.search([query], k=K, **how)[0], queries)
        if true is not None:
            found[f"{kind} recall"] = recall([[int(result.key) for result in results] for results in answers], true)
        found.update({f"{kind} {key}": value for key, value in took.items()})

    vectors = list(np.load(data / "queries.npy"))
    measure("dense", vectors, truth["all"], mode="dense")
    for column in COLUMNS:
        for share in SHARES:
            name = f"dense, {share / 10:g} % {column}"
            measure(name, vectors, truth[f"{column} {share}"], mode="dense", filter=f"{column} < {share}")
    measure("bm25", list(encoder.queries), mode="bm25")
    measure("hybrid", list(encoder.queries), mode="hybrid")
    return found


def index_config(settings: Mapping[str, Any]) -> Any:
    from genai.config.embedding import EmbeddingConfig
    from genai.config.index import ChunkingConfig, IndexConfig, IndexSourceConfig

    return IndexConfig(
        name="bench",
        indexes_dir=str(Path(settings["folder"]) / "index"),
        source=IndexSourceConfig(direct=True, metadata=dict.fromkeys(COLUMNS, "integer")),
        chunking=ChunkingConfig(name="none"),
        embedding=EmbeddingConfig(model="given"),
    )


def documents(settings: Mapping[str, Any]) -> Iterator[Any]:
    """One a point, with its number in front of its text."""
    from genai.index.interfaces import Document

    columns = np.load(Path(settings["data"]) / "columns.npz")
    rows = zip(*(columns[name].tolist() for name in COLUMNS), strict=True)
    for row, (values, text) in enumerate(zip(rows, texts(settings), strict=False)):
        yield Document(key=str(row), text=f"{row} {text}", metadata=dict(zip(COLUMNS, values, strict=True)))


class GivenVectors:
    """An encoder that knows the vectors of the data set, so that embedding takes nothing."""

    fingerprint = "given"
    dimension = DIM
    max_tokens = 1 << 20

    def __init__(self, settings: Mapping[str, Any]) -> None:
        data = Path(settings["data"])
        self._base = np.load(data / "base.npy", mmap_mode="r")
        vectors = np.load(data / "queries.npy")
        self.queries = dict(zip(query_texts(len(vectors), settings), vectors, strict=True))

    def embed_documents(self, texts: Sequence[str]) -> Any:
        return np.array(self._base[[int(text.partition(" ")[0]) for text in texts]])

    def embed_queries(self, texts: Sequence[str]) -> Any:
        return np.stack([self.queries[text] for text in texts])

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+", text)]


def texts(settings: Mapping[str, Any]) -> Iterator[str]:
    """Texts without end, each of a few sentences."""
    parts, chosen = pool(settings["pool"]), random.Random(SEED)
    while True:
        yield " ".join(chosen.choices(parts, k=_SENTENCES))


def query_texts(count: int, settings: Mapping[str, Any]) -> list[str]:
    """A few words each that follow one another in a text; all different."""
    chosen = random.Random(SEED + 1)
    found: dict[str, None] = {}
    for text in texts(settings):
        words = text.split()
        start = chosen.randrange(max(1, len(words) - _WORDS))
        found[" ".join(words[start : start + _WORDS])] = None
        if len(found) == count:
            return list(found)
    raise AssertionError("texts have no end")
