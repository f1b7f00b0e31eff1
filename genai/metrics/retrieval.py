"""How good a ranking is, given which documents are relevant: one query each; the mean over queries is the figure.

`ranked` holds what was found, best first, each document once; `relevant` the documents that should be found, as a
collection (all alike) or with a grade each (a grade of 0 or less is not relevant). What is relevant but was not found
counts as missed, so a short ranking is as good as one that goes on with wrong documents.

Sources: Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval", chapter 8 (precision, recall,
average precision); Voorhees 1999, "The TREC-8 Question Answering Track Report" (reciprocal rank); Järvelin and
Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", with the discount log2(rank + 1) and the gain
that trec_eval takes: the grade itself (nDCG).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from genai.errors import UsageError

Relevant = Collection[str] | Mapping[str, float]
Metric = Callable[[Sequence[str], Relevant], float]


def recall_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float:
    """The share of the relevant documents that is among the first k."""
    wanted = _wanted(relevant)
    return sum(name in wanted for name in ranked[:k]) / len(wanted)


def precision_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float:
    """The share of the first k places that relevant documents take; places that are empty count as wrong."""
    wanted = _wanted(relevant)
    return sum(name in wanted for name in ranked[:k]) / k


def hit_rate_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float:
    """1 where any relevant document is among the first k, else 0."""
    wanted = _wanted(relevant)
    return float(any(name in wanted for name in ranked[:k]))


def mrr_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float:
    """One divided by the rank of the first relevant document; 0 where none is among the first k."""
    wanted = _wanted(relevant)
    return next((1 / rank for rank, name in enumerate(ranked[:k], 1) if name in wanted), 0.0)


def map_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float:
    """Average precision: the precision at the rank of each relevant document among the first k, summed and divided by
    the number of relevant documents, or by k where there are more.
    """
    wanted = _wanted(relevant)
    found, total = 0, 0.0
    for rank, name in enumerate(ranked[:k], 1):
        if name in wanted:
            found += 1
            total += found / rank
    return total / min(len(wanted), k)


def ndcg_at_k(ranked: Sequence[str], relevant: Relevant, k: int) -> float:
    """The discounted gain of the first k, divided by that of the best possible order.

    DCG = sum over ranks r of:  grade / log2(r + 1)
    """
    wanted = _wanted(relevant)
    best = _discounted(sorted(wanted.values(), reverse=True)[:k])
    return _discounted([wanted.get(name, 0.0) for name in ranked[:k]]) / best


_AT_K: dict[str, Callable[[Sequence[str], Relevant, int], float]] = {
    "recall": recall_at_k,
    "precision": precision_at_k,
    "hit_rate": hit_rate_at_k,
    "mrr": mrr_at_k,
    "map": map_at_k,
    "ndcg": ndcg_at_k,
}


def parse_metric(name: str) -> Metric:
    """A measure by its name: `recall@10`, `ndcg@10`, `mrr@10`, `map@100`, `precision@5`, `hit_rate@1`.

    Raises:
        UsageError: there is none of that name.
    """
    measure, depth = _parts(name)
    at_k = _AT_K[measure]
    return lambda ranked, relevant: at_k(ranked, relevant, depth)


def metric_depth(name: str) -> int:
    """How many places of a ranking a measure looks at: 10 for `ndcg@10`.

    Raises:
        UsageError: see `parse_metric`.
    """
    return _parts(name)[1]


def _parts(name: str) -> tuple[str, int]:
    measure, _, k = name.partition("@")
    if measure not in _AT_K or not k.isdecimal() or int(k) < 1:
        known = ", ".join(f"{measure}@K" for measure in _AT_K)
        raise UsageError(f"'{name}' is no measure of retrieval", fix=f"known: {known}, with K such as 10")
    return measure, int(k)


def _wanted(relevant: Relevant) -> Mapping[str, float]:
    grades = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
    wanted = {name: float(grade) for name, grade in grades.items() if grade > 0}
    if not wanted:
        raise ValueError("no document is relevant, so that no ranking is better than another")
    return wanted


def _discounted(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
