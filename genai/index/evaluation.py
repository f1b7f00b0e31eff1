"""How well an index finds what it should: measures of retrieval over labelled queries, for each way to search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from genai.index.labelled_queries import LabelledQuery, match
from genai.index.requests import Mode, Query
from genai.index.search import Index
from genai.metrics.retrieval import parse_metric
from genai.metrics.statistics import Interval, bootstrap_interval

METRICS = ("recall@1", "recall@10", "recall@100", "precision@10", "hit_rate@10", "mrr@10", "map@100", "ndcg@10")
DEPTH = 100
"""Chunks that are looked at a query; several may belong to one document."""
_QUERIES_AT_ONCE = 64

T = TypeVar("T")
Found = list[tuple[str, str]]
"""(id of a chunk, key of its document), best first."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one way to search found."""

    mode: Mode
    """dense, bm25 or hybrid."""
    reranked: bool
    """Whether a reranker had the last word."""
    values: Mapping[str, NDArray[np.float64]]
    """Measure -> (queries,), in the order of the queries."""

    @property
    def num_queries(self) -> int:
        """Questions that were asked."""
        return len(next(iter(self.values.values())))

    @cached_property
    def means(self) -> dict[str, float]:
        """Measure -> its mean over the queries."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Measure -> where its mean would lie for other queries of the same kind, with 95 % confidence."""
        return {name: bootstrap_interval(values) for name, values in self.values.items()}


def evaluate(
    index: Index,
    queries: Sequence[LabelledQuery],
    *,
    modes: Sequence[Mode] = ("dense", "bm25", "hybrid"),
    metrics: Sequence[str] = METRICS,
    depth: int = DEPTH,
    rerank: bool | None = False,
) -> list[Evaluation]:
    """Ask an index all questions, in each mode, and measure what it finds.

    Queries are embedded once for all modes.

    Args:
        index: to ask.
        queries: as `read_queries` gave them.
        modes: ways to search.
        metrics: see `parse_metric`.
        depth: chunks a query; with a reranker at most its candidates, as when the index is asked for a few results.
        rerank: see `Index.search`.

    Raises:
        UsageError: a measure is unknown, or the index cannot be asked a query.
        DataError: see `match`.
    """
    measures = {name: parse_metric(name) for name in metrics}
    matched = match(index.ledger, queries)
    asked = with_vectors(index, matched) if any(mode != "bm25" for mode in modes) else None
    reranker = index.config.search.reranker if rerank is not False else None
    if reranker is not None:
        depth = min(depth, reranker.candidates)
    evaluations = []
    for mode in modes:
        found = retrieve_all(index, matched, mode=mode, depth=depth, asked=asked, rerank=rerank)
        values = {
            name: np.array(
                [measure(query.names(pairs), query.relevant) for query, pairs in zip(matched, found, strict=True)]
            )
            for name, measure in measures.items()
        }
        evaluations.append(Evaluation(mode=mode, reranked=reranker is not None, values=values))
    return evaluations


def with_vectors(index: Index, queries: Sequence[LabelledQuery]) -> list[Query]:
    """The questions with their vectors, to ask them several times."""
    return [
        Query(text=query.text, vector=vector)
        for some in _portions(queries)
        for query, vector in zip(some, index.embed([query.text for query in some]), strict=True)
    ]


def retrieve_all(
    index: Index,
    queries: Sequence[LabelledQuery],
    *,
    mode: Mode,
    depth: int = DEPTH,
    asked: Sequence[Query] | None = None,
    rerank: bool | None = False,
) -> list[Found]:
    """What an index finds for each question.

    Args:
        index, mode, depth, rerank: see `evaluate`.
        queries: the questions.
        asked: them with their vectors, if they were embedded already.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, query in enumerate(queries):
        groups[query.group].append(place)
    found: list[Found] = [[] for _ in queries]
    for places in groups.values():
        for some in _portions(places):
            results = index.search(
                [asked[place] if asked else queries[place].text for place in some],
                k=depth,
                mode=mode,
                filter=queries[some[0]].filter,
                tenant=queries[some[0]].tenant,
                columns=[],
                rerank=rerank,
            )
            for place, ranking in zip(some, results, strict=True):
                found[place] = [(result.id, result.key) for result in ranking]
    return found


def _portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for begin in range(0, len(values), _QUERIES_AT_ONCE):
        yield values[begin : begin + _QUERIES_AT_ONCE]
