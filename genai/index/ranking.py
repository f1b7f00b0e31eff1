"""The stages of a search: what the engine finds for each query, fused where it was asked twice, and put in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from genai.errors import UsageError
from genai.index.fusion import maximal_marginal_relevance, reciprocal_rank_fusion
from genai.index.interfaces import Reader, Reranker, SparseVector, VectorQuery, Vectors
from genai.index.ledger_records import StoredChunk
from genai.index.requests import Query, Request

Ranking = list[tuple[str, float]]
"""(id, score), best first."""


def retrieve(
    reader: Reader, vectors: Vectors | None, words: Sequence[SparseVector] | None, request: Request
) -> list[Ranking]:
    """What the engine finds for each query.

    Args:
        reader: of a published state.
        vectors: (n, dim), the queries, where the request searches vectors.
        words: (n,), the queries, where it searches words.
        request: how many, through which filter, in which mode.
    """
    by_kind: list[tuple[float, list[Vectors | SparseVector]]] = []
    if vectors is not None:
        by_kind.append((request.dense_weight, list(vectors)))
    if words is not None:
        by_kind.append((1 - request.dense_weight, list(words)))
    wanted = [
        VectorQuery(vector=vector, limit=request.depth, filter=request.filter)
        for _, queries in by_kind
        for vector in queries
    ]
    found = [[(hit.id, hit.score) for hit in hits] for hits in reader.search(wanted)]
    if request.mode == "hybrid":
        num = len(found) // len(by_kind)
        parts = [found[begin : begin + num] for begin in range(0, len(found), num)]
        weights = [weight for weight, _ in by_kind]
        found = [fuse(rankings, weights, request.rrf_k) for rankings in zip(*parts, strict=True)]
    lowest = request.score_threshold
    if lowest is not None:
        found = [[pair for pair in ranking if pair[1] >= lowest] for ranking in found]
    return [ranking[: request.num_candidates] for ranking in found]


def fuse(rankings: Sequence[Ranking], weights: Sequence[float], rrf_k: int) -> Ranking:
    """One ranking out of several, by reciprocal ranks."""
    return reciprocal_rank_fusion([[name for name, _ in ranking] for ranking in rankings], weights, rrf_k=rrf_k)


def reread(
    reranker: Reranker, queries: Sequence[Query], rankings: Sequence[Ranking], chunks: Mapping[str, StoredChunk]
) -> list[Ranking]:
    """The results of each query in the order of a model that reads query and text; of equal scores the first stays so.

    Raises:
        UsageError: a query has no text.
    """
    reordered: list[Ranking] = []
    for query, ranking in zip(queries, rankings, strict=True):
        if query.text is None:
            raise UsageError("the reranker needs the text of a query, not only its vector")
        names = [name for name, _ in ranking]
        scores = reranker.score(query.text, [chunks[name].text for name in names]) if names else []
        reordered.append(sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1]))
    return reordered


def diversify(
    vectors: Vectors,
    rankings: Sequence[Ranking],
    vectors_of: Callable[[Sequence[str]], Vectors],
    *,
    k: int,
    diversity: float,
) -> list[Ranking]:
    """The k results of each query that are near to it and differ from one another (maximal marginal relevance).

    Args:
        vectors: (n, dim), the queries.
        rankings: (n,), their candidates.
        vectors_of: embeddings of chunks by their ids; (m, 0) when it has none of them.
        k, diversity: see `maximal_marginal_relevance`.
    """
    reordered: list[Ranking] = []
    for vector, ranking in zip(vectors, rankings, strict=True):
        names = [name for name, _ in ranking]
        candidates = vectors_of(names)
        if candidates.shape != (len(names), len(vector)):
            candidates = np.zeros((len(names), len(vector)), dtype=np.float32)
        chosen = maximal_marginal_relevance(vector, candidates, k=k, diversity=diversity)
        reordered.append([(names[place], value) for place, value in chosen])
    return reordered
