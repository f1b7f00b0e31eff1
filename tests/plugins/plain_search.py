"""Search without an engine, and encoders without a network: what measuring and mining are tested with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PlainNeighbours:
    """All products, sorted; of equal ones the first passage comes first. Remembers what it was asked."""

    def __init__(self, vectors: Any) -> None:
        self.vectors = np.asarray(vectors, dtype=np.float64)
        self.asked: list[tuple[int, int]] = []
        """(queries, k)"""

    def nearest(self, queries: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        self.asked.append((len(queries), k))
        products = np.asarray(queries, dtype=np.float64) @ self.vectors.T
        order = np.argsort(-products, axis=1, kind="stable")[:, :k]
        found = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        found[:, : order.shape[1]] = order
        scores[:, : order.shape[1]] = np.take_along_axis(products, order, axis=1)
        return found, scores


def plain_neighbours(vectors: Any) -> PlainNeighbours:
    """From the vectors of all passages."""
    return PlainNeighbours(vectors)


class TableEmbedder:
    """Knows the vector of every text; remembers how many it was asked for at a time."""

    def __init__(self, documents: Mapping[str, Any], queries: Mapping[str, Any]) -> None:
        self._documents = documents
        self._queries = queries
        self.portions: list[int] = []

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.portions.append(len(texts))
        return np.array([self._documents[text] for text in texts], dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.portions.append(len(texts))
        return np.array([self._queries[text] for text in texts], dtype=np.float32)
