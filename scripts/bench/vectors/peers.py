"""Other engines, each with a graph of the same width (16 edges a node, 100 candidates while it is built), one thread.

A peer builds a file or folder from `base`, and opens it to search: `search(query, effort)` gives rows, best first.
What `effort` means differs: candidates of a graph, or partitions that are looked at.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vectors.data import DIM, K

EDGES, CANDIDATES = 16, 100
Search = Callable[[Any, int], Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """An engine of a package."""

    package: str
    """What is imported."""
    build: Callable[[Any, Path], None]
    """(base, folder)"""
    open: Callable[[Path], Search]
    """(folder)"""
    efforts: tuple[int, ...] = (32, 64, 128)
    """What is tried."""

    def fault(self) -> str | None:
        """Why it cannot take part."""
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            return f"{error} (--install-peers)"
        return None


def build_faiss(base: Any, folder: Path) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(DIM, EDGES, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = CANDIDATES
    index.add(np.ascontiguousarray(base))
    faiss.write_index(index, str(folder / "index"))


def open_faiss(folder: Path) -> Search:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / "index"))

    def search(query: Any, effort: int) -> Sequence[int]:
        index.hnsw.efSearch = effort
        rows: list[int] = index.search(query[None], K)[1][0].tolist()
        return rows

    return search


def build_hnswlib(base: Any, folder: Path) -> None:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=DIM)
    index.init_index(len(base), M=EDGES, ef_construction=CANDIDATES)
    index.add_items(base, num_threads=1)
    index.save_index(str(folder / "index"))


def open_hnswlib(folder: Path) -> Search:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=DIM)
    index.load_index(str(folder / "index"))
    index.set_num_threads(1)

    def search(query: Any, effort: int) -> Sequence[int]:
        index.set_ef(effort)
        rows: list[int] = index.knn_query(query, K)[0][0].tolist()
        return rows

    return search


def build_usearch(base: Any, folder: Path) -> None:
    index = usearch_index()
    index.add(np.arange(len(base)), base, threads=1)
    index.save(str(folder / "index"))


def open_usearch(folder: Path) -> Search:
    index = usearch_index()
    index.load(str(folder / "index"))

    def search(query: Any, effort: int) -> Sequence[int]:
        index.expansion_search = effort
        rows: list[int] = index.search(query, K, threads=1).keys.tolist()
        return rows

    return search


def usearch_index() -> Any:
    from usearch.index import Index

    return Index(ndim=DIM, metric="ip", dtype="f16", connectivity=EDGES, expansion_add=CANDIDATES)


def build_lancedb(base: Any, folder: Path) -> None:
    import lancedb
    import pyarrow

    values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.asarray(base).ravel()), DIM)
    rows = pyarrow.table({"row": np.arange(len(base)), "vector": values})
    table = lancedb.connect(str(folder)).create_table("points", rows)
    table.create_index(metric="cosine", index_type="IVF_HNSW_SQ", vector_column_name="vector")


def open_lancedb(folder: Path) -> Search:
    import lancedb

    table = lancedb.connect(str(folder)).open_table("points")

    def search(query: Any, effort: int) -> Sequence[int]:
        asked = table.search(query, vector_column_name="vector").distance_type("cosine").limit(K).select(["row"])
        rows: list[int] = asked.nprobes(effort).refine_factor(4).to_arrow()["row"].to_pylist()
        return rows

    return search


PEERS = {
    "faiss HNSW": Peer(package="faiss", build=build_faiss, open=open_faiss),
    "hnswlib": Peer(package="hnswlib", build=build_hnswlib, open=open_hnswlib),
    "usearch f16": Peer(package="usearch.index", build=build_usearch, open=open_usearch),
    "lancedb": Peer(package="lancedb", build=build_lancedb, open=open_lancedb, efforts=(8, 20, 64)),
}
