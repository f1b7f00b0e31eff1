"""Rankings made of rankings: reciprocal rank fusion, and maximal marginal relevance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genai.index.interfaces import Vectors


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[str]], weights: Sequence[float], *, rrf_k: int = 60
) -> list[tuple[str, float]]:
    """One ranking out of several, by ranks alone, so that scores of different kinds need not be compared.

        score(d) = sum over rankings i of:  weight_i / (rrf_k + rank_i(d))

    where a ranking that lacks d adds nothing. Source: Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion
    outperforms Condorcet and individual Rank Learning Methods", with a weight a ranking.

    Args:
        rankings: ids, best first, each once.
        weights: one a ranking; one of 0 leaves its ranking out altogether.
        rrf_k: larger ones make high ranks count less.

    Returns:
        (id, score), best first; ties by id.
    """
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        if weight == 0:
            continue
        for rank, name in enumerate(ranking, 1):
            scores[name] = scores.get(name, 0.0) + weight / (rrf_k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def maximal_marginal_relevance(
    query: Vectors, vectors: Vectors, *, k: int, diversity: float
) -> list[tuple[int, float]]:
    """Choose results one by one, each as near to the query and as far from those already chosen as can be.

        next = argmax over d of:  (1 - diversity) cos(query, d) - diversity max over chosen c of cos(c, d)

    Source: Carbonell and Goldstein 1998, "The use of MMR, diversity-based reranking for reordering documents and
    producing summaries"; their lambda is 1 - diversity.

    Args:
        query: (dim,)
        vectors: (n, dim), the candidates.
        k: how many to choose.
        diversity: 0 gives the nearest ones, 1 looks at the difference alone.

    Returns:
        (place among the candidates, the value that it was chosen for), at most k and at most n; of equal values the
        first candidate.
    """
    unit = _unit(vectors)
    relevance = unit @ _unit(query[None])[0]
    nearest_chosen = np.zeros(len(unit))
    is_free = np.ones(len(unit), dtype=bool)
    chosen: list[tuple[int, float]] = []
    while len(chosen) < min(k, len(unit)):
        values = np.where(is_free, (1 - diversity) * relevance - diversity * nearest_chosen, -np.inf)
        place = int(values.argmax())
        chosen.append((place, float(values[place])))
        is_free[place] = False
        similarity = unit @ unit[place]
        # the first one chosen says how near each is, even where that is less than 0
        nearest_chosen = similarity if len(chosen) == 1 else np.maximum(nearest_chosen, similarity)
    return chosen


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-12)
    return unit
