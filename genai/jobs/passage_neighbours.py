"""The nearest passages of a corpus, found by an engine of the index room: what measuring and mining ask for.

Every query is compared with every passage, unless that is so much work that to build a graph first is less. An engine
keeps its files in a temporary folder, which goes with the object that searches them.
"""

from __future__ import annotations

import tempfile
import uuid
import weakref
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genai.config.index import ExactConfig, QdrantEdgeConfig
from genai.errors import MissingExtraError
from genai.index.engines import open_engine
from genai.index.interfaces import Point, SparseVector, Spec, VectorQuery
from genai.log import get_logger, progress

if TYPE_CHECKING:
    from genai.embedding.tuning.interfaces import NeighboursOf, Vectors
    from genai.index.interfaces import Reader

_FEW_PASSAGES = 50_000
"""With fewer a comparison with all of them takes no longer than a walk over the graph."""
_EXACT_PRODUCTS = 10_000_000_000
"""Queries times passages that are compared one by one: four to six minutes of a core. A graph over 200,000 passages
takes two or three."""
_QUERIES_AT_ONCE = 1024
_POINTS_AT_ONCE = 10_000
_NAME = "passages"
_NO_WORDS = SparseVector(indices=np.zeros(0, dtype=np.uint32), values=np.zeros(0, dtype=np.float32))
_log = get_logger(__name__)


def passage_neighbours(
    *,
    check: Callable[[], None] = lambda: None,
    few_passages: int = _FEW_PASSAGES,
    exact_products: int = _EXACT_PRODUCTS,
) -> NeighboursOf:
    """What finds the nearest among the vectors that it is given.

    Up to `exact_products` comparisons of a query with a passage, all that are asked for at once, are made one by one,
    and the result is exact. With more, and more than `few_passages`, the graph of qdrant_edge is built by the first
    query and finds nearly the same, .997 of the first hundred in a mixture of clusters.

    Args:
        check: called between two portions of the queries; raises where the search should end.
        few_passages: up to so many are always compared one by one.
        exact_products: see above.
    """
    return lambda vectors: PassageNeighbours(
        vectors, check=check, few_passages=few_passages, exact_products=exact_products
    )


class PassageNeighbours:
    """Meets `genai.embedding.tuning.interfaces.Neighbours`; engines are filled when they are first needed.

    Args:
        vectors: (passages, D), of length 1.
        check, few_passages, exact_products: see `passage_neighbours`.
    """

    def __init__(self, vectors: Vectors, *, check: Callable[[], None], few_passages: int, exact_products: int) -> None:
        self._vectors = vectors
        self._check = check
        self._few_passages = few_passages
        self._exact_products = exact_products
        self._readers: dict[bool, Reader] = {}
        self._stack = ExitStack()
        weakref.finalize(self, self._stack.close)

    def nearest(self, queries: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions and dot products of the k nearest passages, best first, (queries, k) each; of equal ones the first
        in the corpus. -1 and -inf where there are fewer.
        """
        found = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        if not len(self._vectors) or not len(queries):
            return found, scores
        reader = self._reader(exact=self._is_exact(len(queries)))
        is_long = len(queries) > _QUERIES_AT_ONCE
        with progress("searching", len(queries)) if is_long else nullcontext() as task:
            for start in range(0, len(queries), _QUERIES_AT_ONCE):
                self._check()
                portion = queries[start : start + _QUERIES_AT_ONCE]
                for row, hits in enumerate(reader.search([VectorQuery(vector=query, limit=k) for query in portion])):
                    found[start + row, : len(hits)] = [_position(hit.id) for hit in hits]
                    scores[start + row, : len(hits)] = [hit.score for hit in hits]
                if task is not None:
                    task.update(start + len(portion))
        return found, scores

    def _is_exact(self, num_queries: int) -> bool:
        num_passages = len(self._vectors)
        return num_passages <= self._few_passages or num_queries * num_passages <= self._exact_products

    def _reader(self, *, exact: bool) -> Reader:
        if exact not in self._readers:
            self._readers[exact] = self._fill(exact=exact)
        return self._readers[exact]

    def _fill(self, *, exact: bool) -> Reader:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="genai-passages-")))
        try:
            engine = open_engine(ExactConfig() if exact else QdrantEdgeConfig(), folder, index=_NAME)
        except MissingExtraError as error:
            _log.warning("%s: %d passages are compared with each query one by one", error, len(self._vectors))
            return self._reader(exact=True)
        if not exact:
            _log.info("building a graph over %d passages", len(self._vectors))
        spec = Spec(index=_NAME, generation=_NAME, dimension=self._vectors.shape[1], columns={})
        writer = engine.writer(spec, None)
        try:
            for start in range(0, len(self._vectors), _POINTS_AT_ONCE):
                self._check()
                portion = enumerate(self._vectors[start : start + _POINTS_AT_ONCE], start)
                writer.upsert([_point(position, vector) for position, vector in portion])
            token = writer.publish()
        finally:
            writer.close()
        reader = engine.reader(spec, token)
        self._stack.callback(reader.close)
        return reader


def _point(position: int, vector: Vectors) -> Point:
    """Ids are in the order of the corpus, because engines break ties by them."""
    return Point(id=str(uuid.UUID(int=position)), dense=vector, sparse=_NO_WORDS, payload={})


def _position(id: str) -> int:
    return int(id[-12:], 16)
