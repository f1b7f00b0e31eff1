"""How much vectors count against words in mode hybrid: chosen on part of the labelled queries, measured on the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from genai.errors import DataError
from genai.index.evaluation import DEPTH, Found, retrieve_all, with_vectors
from genai.index.labelled_queries import LabelledQuery, match
from genai.index.search import Index
from genai.metrics.retrieval import Metric, parse_metric

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))
RRF_KS = (2, 5, 10, 20, 60)
_FEWEST_QUERIES = 20


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to fuse."""

    dense_weight: float
    """Of the vectors; the words have the rest: 1 is dense alone, 0 is words alone."""
    rrf_k: int
    """A result at rank r counts weight / (rrf_k + r)."""
    train: float
    """Mean of the measure over the queries that the choice is made by."""
    test: float
    """Mean over those that had no say."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """All that was tried, and what came of it."""

    metric: str
    """What was to be as high as can be."""
    seed: int
    """Of the split."""
    num_train: int
    """Queries that had a say."""
    num_test: int
    """Queries that had none."""
    tried: tuple[Trial, ...]
    """By `rrf_k` and weight, ascending."""
    best: Trial
    """Highest on the train queries; of equal ones that in the middle."""


def tune_fusion(
    index: Index,
    queries: Sequence[LabelledQuery],
    *,
    metric: str = "ndcg@10",
    weights: Sequence[float] = WEIGHTS,
    rrf_ks: Sequence[int] = RRF_KS,
    train_share: float = 0.5,
    seed: int = 0,
) -> Tuning:
    """Choose `search.dense_weight` and `search.rrf_k`: every query is searched twice, and fused in every way.

    Args:
        index: to ask.
        queries: as `read_queries` gave them.
        metric: see `parse_metric`.
        weights, rrf_ks: to try, each with each.
        train_share: of the queries, drawn at random.
        seed: of that draw.

    Raises:
        DataError: there are too few queries.
    """
    if len(queries) < _FEWEST_QUERIES:
        fix = f"label at least {_FEWEST_QUERIES}, better some hundred"
        raise DataError(f"{len(queries)} queries are too few to choose by", fix=fix)
    measure = parse_metric(metric)
    matched = match(index.ledger, queries)
    depth = max(DEPTH, index.config.search.candidates)
    dense = retrieve_all(index, matched, mode="dense", depth=depth, asked=with_vectors(index, matched))
    words = retrieve_all(index, matched, mode="bm25", depth=depth)
    ways = list(product(rrf_ks, weights))
    values_QW = np.array(
        [list(_values(*one, measure, ways)) for one in zip(matched, dense, words, strict=True)], dtype=np.float64
    )
    order = np.random.default_rng(seed).permutation(len(matched))
    num_train = round(len(matched) * train_share)
    train_W, test_W = values_QW[order[:num_train]].mean(axis=0), values_QW[order[num_train:]].mean(axis=0)
    tried = tuple(
        Trial(dense_weight=weight, rrf_k=rrf_k, train=float(train), test=float(test))
        for (rrf_k, weight), train, test in zip(ways, train_W, test_W, strict=True)
    )
    return Tuning(
        metric=metric,
        seed=seed,
        num_train=num_train,
        num_test=len(matched) - num_train,
        tried=tried,
        best=_best(tried),
    )


def _values(
    query: LabelledQuery, dense: Found, words: Found, measure: Metric, ways: Sequence[tuple[int, float]]
) -> Iterator[float]:
    """The measure of one query for each way to fuse its two rankings: `reciprocal_rank_fusion`, with arrays."""
    found = sorted({*dense, *words})  # by id, which breaks ties
    dense_ranks, word_ranks = _ranks(found, dense), _ranks(found, words)
    for rrf_k, weight in ways:
        scores = weight / (rrf_k + dense_ranks) + (1 - weight) / (rrf_k + word_ranks)
        order = np.argsort(-scores, kind="stable")[: min(DEPTH, np.count_nonzero(scores))]
        yield measure(query.names(found[place] for place in order), query.relevant)


def _ranks(found: Found, ranking: Found) -> NDArray[np.float64]:
    ranks = {id_: rank for rank, (id_, _) in enumerate(ranking, 1)}
    return np.array([ranks.get(id_, np.inf) for id_, _ in found])


def _best(tried: Sequence[Trial]) -> Trial:
    highest = max(one.train for one in tried)
    equal = [one for one in tried if one.train >= highest - 1e-9]
    return equal[len(equal) // 2]
