"""How well a model finds what it should: held-out queries over the whole corpus, before and after.

The corpus is searched whole, never a sample of it: among a few passages every model looks good. Rankings are kept, so
that queries won and lost can be shown, and a reranker be measured on what a first stage found.

Sources: the measures are those of `genai.metrics.retrieval`, the intervals those of `genai.metrics.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.data.retrieval.records import HeldOutQuery, Passage
from genai.embedding.tuning.interfaces import NeighboursOf, PairScorer, TextEmbedder, Vectors
from genai.embedding.vectors import finished
from genai.errors import DataError, UsageError
from genai.log import progress
from genai.metrics.retrieval import metric_depth, parse_metric
from genai.metrics.statistics import bootstrap_interval, paired_bootstrap
from genai.report.contents import MetricChange, MovedQuery

DEPTH = 100
"""Passages that are looked at a query, unless a measure asks for more."""
_TEXTS_AT_ONCE = 256
_QUERIES_AT_ONCE = 1024

Check = Callable[[], None]
"""Called between two portions of the work; raises where it should end."""


def go_on() -> None:
    """A check that never ends anything."""


# --- vectors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Everything that is measured with, as vectors: embedded once, used for several lengths and for mining."""

    passages: Vectors
    """(passages, D), the corpus in its order."""
    queries: Vectors
    """(queries, D)"""


def embed(
    embedder: TextEmbedder, passages: Sequence[Passage], queries: Sequence[HeldOutQuery], *, check: Check = go_on
) -> Embeddings:
    """The vectors of a corpus and of the queries that are measured with.

    Args:
        embedder: the model as it is now.
        passages, queries: in the order in which their vectors are wanted.
        check: asked between two portions.

    Raises:
        DataError: the model gave infinite numbers.
    """
    return Embeddings(
        passages=embed_passages(embedder, [passage.text for passage in passages], check=check),
        queries=embed_queries(embedder, [query.query for query in queries], check=check),
    )


def embed_passages(embedder: TextEmbedder, texts: Sequence[str], *, check: Check = go_on) -> Vectors:
    """(n, D), of length 1, for texts that are to be found; see `embed`."""
    return _embed(embedder.embed_documents, texts, "embedding passages", check)


def embed_queries(embedder: TextEmbedder, texts: Sequence[str], *, check: Check = go_on) -> Vectors:
    """(n, D), of length 1, for what is asked; see `embed`."""
    return _embed(embedder.embed_queries, texts, "embedding queries", check)


def _embed(embed: Callable[[Sequence[str]], Any], texts: Sequence[str], description: str, check: Check) -> Vectors:
    # The longest first: a portion holds texts of like length, and too little memory shows at once.
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    vectors: Vectors = np.zeros((len(texts), 0), dtype=np.float32)
    with progress(description, len(texts)) as task:
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            check()
            rows = order[start : start + _TEXTS_AT_ONCE]
            portion = np.asarray(embed([texts[row] for row in rows]), dtype=np.float32)
            if start == 0:
                vectors = np.zeros((len(texts), portion.shape[1]), dtype=np.float32)
            vectors[rows] = portion
            task.update(start + len(rows))
    return finished(vectors, dimension=vectors.shape[1], normalize=True, model="the model")


def _cut(vectors: Vectors, dimension: int | None) -> Vectors:
    if dimension is None:
        return vectors
    if dimension > vectors.shape[1]:
        raise UsageError(f"vectors cannot be cut to {dimension} numbers: the model gives {vectors.shape[1]}")
    return finished(vectors, dimension=dimension, normalize=True, model="the model")


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a model found for each query, and how good that is."""

    values: Mapping[str, NDArray[np.float64]]
    """Measure -> (queries,), in the order of the queries."""
    found: NDArray[np.int64]
    """(queries, depth): positions in the corpus, best first; -1 where there are fewer."""
    scores: NDArray[np.float32]
    """(queries, depth): cosines, or what a reranker says."""
    keys: Sequence[str]
    """Of the passages of the corpus."""
    ranks: NDArray[np.int64]
    """(queries,): place of the first passage that answers, from 1; 0 where none is among those found."""

    @cached_property
    def means(self) -> dict[str, float]:
        """Measure -> its mean over the queries."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    def ranking(self, query: int) -> list[tuple[str, float]]:
        """Key and score of each passage that was found for a query, best first."""
        pairs = zip(self.found[query], self.scores[query], strict=True)
        return [(self.keys[place], float(score)) for place, score in pairs if place >= 0]


def measure(
    embedder: TextEmbedder,
    passages: Sequence[Passage],
    queries: Sequence[HeldOutQuery],
    *,
    metrics: Sequence[str],
    neighbours_of: NeighboursOf,
    depth: int = DEPTH,
    dimension: int | None = None,
    vectors: Embeddings | None = None,
    check: Check = go_on,
) -> Measured:
    """Ask a model all queries over the whole corpus.

    Args:
        embedder: the model.
        passages: the corpus.
        queries: each with the keys of what answers it.
        metrics: see `parse_metric`.
        neighbours_of: searches the vectors of the corpus.
        depth: passages that are looked at a query; more where a measure asks for more.
        dimension: cut all vectors to their first numbers; None: take them whole.
        vectors: of the same passages and queries, where they are there already.
        check: asked between two portions.

    Raises:
        UsageError: a measure is unknown, or a dimension is more than the model has.
        DataError: there is nothing to measure with, or a query names a passage that is not in the corpus.
    """
    depth = max([depth, *map(metric_depth, metrics)])
    _check_queries(passages, queries)
    vectors = vectors or embed(embedder, passages, queries, check=check)
    if (len(vectors.passages), len(vectors.queries)) != (len(passages), len(queries)):
        raise ValueError("these vectors are of other passages or queries")
    neighbours = neighbours_of(_cut(vectors.passages, dimension))
    asked = _cut(vectors.queries, dimension)
    found = np.full((len(queries), depth), -1, dtype=np.int64)
    scores = np.full((len(queries), depth), -np.inf, dtype=np.float32)
    with progress("searching", len(queries)) as task:
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            check()
            rows = slice(start, start + _QUERIES_AT_ONCE)
            found[rows], scores[rows] = neighbours.nearest(asked[rows], depth)
            task.update(min(start + _QUERIES_AT_ONCE, len(queries)))
    return _measured(found, scores, passages, queries, metrics)


def measure_reranker(
    scorer: PairScorer,
    first_stage: Measured,
    passages: Sequence[Passage],
    queries: Sequence[HeldOutQuery],
    *,
    candidates: int = 50,
    metrics: Sequence[str],
    check: Check = go_on,
) -> Measured:
    """Let a reranker put what an encoder found into a better order; what it was not shown counts as not found.

    Args:
        scorer: the reranker.
        first_stage: what an encoder found for the same queries; the same one before and after, so that only the
            reranker differs. Of passages with equal scores its order stays.
        passages, queries: that it was measured with.
        candidates: how many passages of a query the reranker is shown.
        metrics: see `parse_metric`.
        check: asked between two queries.

    Raises:
        UsageError: a measure is unknown.
        DataError: the reranker gave something that is no number.
    """
    for name in metrics:
        parse_metric(name)
    _check_queries(passages, queries)
    found = np.full_like(first_stage.found[:, :candidates], -1)
    scores = np.full(found.shape, -np.inf, dtype=np.float32)
    with progress("reranking", len(queries)) as task:
        for row, query in enumerate(queries):
            check()
            places = first_stage.found[row, :candidates]
            places = places[places >= 0]
            given = scores_of(scorer, query.query, [passages[place].text for place in places])
            order = np.argsort(-given, kind="stable")
            found[row, : len(places)], scores[row, : len(places)] = places[order], given[order]
            task.update(row + 1)
    return _measured(found, scores, passages, queries, metrics)


def scores_of(scorer: PairScorer, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """(n,): what a reranker says about texts for a query.

    Raises:
        DataError: not one finite number a text.
    """
    scores = np.asarray(scorer.score(query, texts), dtype=np.float32) if texts else np.zeros(0, dtype=np.float32)
    if scores.shape != (len(texts),) or not np.isfinite(scores).all():
        raise DataError(f"the reranker gave no finite number for each of {len(texts)} texts to {query[:60]!r}")
    return scores


def from_pairs(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[Passage, ...], tuple[HeldOutQuery, ...]]:
    """Pairs of a query and what answers it as something to measure with: the answers are the corpus.

    Args:
        pairs: (query, positive); equal texts are one.
    """
    keys = {text: str(number) for number, text in enumerate(dict.fromkeys(positive for _, positive in pairs))}
    answers: dict[str, dict[str, float]] = {}
    for query, positive in pairs:
        answers.setdefault(query, {})[keys[positive]] = 1.0
    passages = tuple(Passage(key=key, text=text, document=key) for text, key in keys.items())
    return passages, tuple(HeldOutQuery(query=query, relevant=relevant) for query, relevant in answers.items())


def _check_queries(passages: Sequence[Passage], queries: Sequence[HeldOutQuery]) -> None:
    if not queries:
        raise DataError("there is no query to measure with")
    keys = {passage.key for passage in passages}
    for query in queries:
        if not any(grade > 0 for grade in query.relevant.values()):
            raise DataError(f"nothing answers the query {query.query[:60]!r}", where=query.source or None)
        missing = next((key for key in query.relevant if key not in keys), None)
        if missing is not None:
            what = f"the query {query.query[:60]!r} names the passage {missing!r}, which is not in the corpus"
            raise DataError(what, where=query.source or None)


def _measured(
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
    passages: Sequence[Passage],
    queries: Sequence[HeldOutQuery],
    metrics: Sequence[str],
) -> Measured:
    measures = {name: parse_metric(name) for name in metrics}
    values = {name: np.zeros(len(queries)) for name in metrics}
    ranks = np.zeros(len(queries), dtype=np.int64)
    for row, query in enumerate(queries):
        ranked = [passages[place].key for place in found[row] if place >= 0]
        for name, value in measures.items():
            values[name][row] = value(ranked, query.relevant)
        places = (place for place, key in enumerate(ranked, 1) if query.relevant.get(key, 0.0) > 0)
        ranks[row] = next(places, 0)
    keys = tuple(passage.key for passage in passages)
    return Measured(values=values, found=found, scores=scores, keys=keys, ranks=ranks)


# --- before and after -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Queries won and lost."""

    won: tuple[MovedQuery, ...]
    """Those whose reciprocal rank rose most, the largest rise first."""
    lost: tuple[MovedQuery, ...]
    """Those whose reciprocal rank fell most."""
    num_won: int
    """All queries whose first answer stands higher than before."""
    num_lost: int


def changes(before: Measured, after: Measured) -> tuple[MetricChange, ...]:
    """Each measure of two models over the same queries, with intervals.

    Args:
        before, after: of the same queries in the same order, with the same measures.
    """
    if list(before.values) != list(after.values):
        raise ValueError(f"measured were {list(before.values)} and {list(after.values)}")
    return tuple(_change(name, old, after.values[name]) for name, old in before.values.items())


def _change(name: str, old: NDArray[np.float64], new: NDArray[np.float64]) -> MetricChange:
    first, second, difference = bootstrap_interval(old), bootstrap_interval(new), paired_bootstrap(old, new)
    return MetricChange(
        metric=name,
        before=first.mean,
        before_low=first.low,
        before_high=first.high,
        after=second.mean,
        after_low=second.low,
        after_high=second.high,
        difference=difference.mean,
        low=difference.low,
        high=difference.high,
    )


def examples(
    before: Measured, after: Measured, passages: Sequence[Passage], queries: Sequence[HeldOutQuery], *, count: int
) -> Examples:
    """The queries whose first answer moved most, by its reciprocal rank.

    Args:
        before, after: of these queries over these passages.
        passages, queries: that both were measured with.
        count: at most so many won and so many lost.
    """
    moved = _reciprocal(after.ranks) - _reciprocal(before.ranks)
    order = np.argsort(-np.abs(moved), kind="stable")
    won, lost = [row for row in order if moved[row] > 0], [row for row in order if moved[row] < 0]

    def example(row: int, better: Measured) -> MovedQuery:
        return MovedQuery(
            query=queries[row].query,
            expected=passages[int(better.found[row, better.ranks[row] - 1])].text,
            rank_before=int(before.ranks[row]) or None,
            rank_after=int(after.ranks[row]) or None,
            first_before=passages[int(before.found[row, 0])].text,
            first_after=passages[int(after.found[row, 0])].text,
        )

    return Examples(
        won=tuple(example(row, after) for row in won[:count]),
        lost=tuple(example(row, before) for row in lost[:count]),
        num_won=len(won),
        num_lost=len(lost),
    )


def _reciprocal(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 / rank; 0 for what was not found."""
    return np.where(ranks > 0, 1.0 / np.maximum(ranks, 1), 0.0)
