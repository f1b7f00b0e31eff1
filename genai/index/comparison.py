"""Whether one generation of an index finds what it should as well as another one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genai.index.evaluation import evaluate
from genai.index.labelled_queries import LabelledQuery
from genai.index.requests import Mode
from genai.index.search import Index
from genai.metrics.statistics import Interval, paired_bootstrap

METRICS = ("recall@10", "ndcg@10")
"""What two generations are compared by."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One measure of both generations, over the same queries."""

    metric: str
    before: float
    """Mean of the generation that answers."""
    after: float
    """Mean of the new one."""
    difference: Interval
    """Of after - before."""
    passed: bool
    """Whether the lower end is not below -tolerance."""


def compare(
    before: Index, after: Index, queries: Sequence[LabelledQuery], *, mode: Mode, tolerance: float
) -> tuple[Comparison, ...]:
    """Ask both the same questions, without rerankers, and compare query by query.

    Args:
        before: opened on the generation that answers.
        after: opened on the other one.
        queries: as `read_queries` gave them.
        mode: how both are asked.
        tolerance: how much worse `after` may be, at the lower end of the interval.

    Raises:
        DataError: the queries do not fit the index.
    """
    [old] = evaluate(before, queries, modes=[mode], metrics=METRICS)
    [new] = evaluate(after, queries, modes=[mode], metrics=METRICS)
    comparisons = []
    for metric in METRICS:
        difference = paired_bootstrap(old.values[metric], new.values[metric])
        comparison = Comparison(
            metric=metric,
            before=old.means[metric],
            after=new.means[metric],
            difference=difference,
            passed=difference.low >= -tolerance,
        )
        comparisons.append(comparison)
    return tuple(comparisons)
