"""How far judges agree, with each other or with people, beyond what chance brings.

Sources: Cohen 1960, "A Coefficient of Agreement for Nominal Scales"; Cohen 1968, "Weighted Kappa"; Krippendorff 2011,
"Computing Krippendorff's Alpha-Reliability"; Youden 1950, "Index for Rating Diagnostic Tests".

Shapes: N items, K labels, J raters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genai.metrics.aggregates import Floats

Weights = Literal["linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often each label of one rater meets each of another."""

    labels: tuple[Any, ...]
    """In their order."""
    counts: tuple[tuple[int, ...], ...]
    """(K, K): a row is a label of the first rater, a column one of the second."""


def confusion(first: Sequence[Any], second: Sequence[Any], labels: Sequence[Any] | None = None) -> Confusion:
    """Count which labels meet.

    Args:
        first, second: (N,), labels of the same items; all of one type that can be sorted.
        labels: all that there are, in order; by default those that occur, sorted.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} labels are no pairs")
    known = sorted({*first, *second}) if labels is None else labels
    numbers = {label: number for number, label in enumerate(known)}
    counts = np.zeros((len(known), len(known)), dtype=np.int64)
    for one, other in zip(first, second, strict=True):
        counts[numbers[one], numbers[other]] += 1
    return Confusion(labels=tuple(known), counts=tuple(tuple(map(int, row)) for row in counts))


def cohen_kappa(
    first: Sequence[Any],
    second: Sequence[Any],
    weights: Weights | None = None,
    *,
    labels: Sequence[Any] | None = None,
) -> float:
    """Agreement of two raters: 1 is perfect, 0 what chance brings.

    Args:
        first, second, labels: see `confusion`.
        weights: how bad it is to be several labels apart: as many times, or as their square; None: all alike.

    Returns:
        nan where both always give one and the same label, so that chance would agree too.
    """
    counts_KK = np.array(confusion(first, second, labels).counts, dtype=np.float64)
    distance_KK = np.abs(np.subtract.outer(np.arange(len(counts_KK)), np.arange(len(counts_KK)))).astype(np.float64)
    badness_KK = {None: (distance_KK > 0).astype(np.float64), "linear": distance_KK, "quadratic": distance_KK**2}
    by_chance_KK = np.outer(counts_KK.sum(axis=1), counts_KK.sum(axis=0)) / counts_KK.sum()
    expected = float((badness_KK[weights] * by_chance_KK).sum())
    return 1 - float((badness_KK[weights] * counts_KK).sum()) / expected if expected else math.nan


def krippendorff_alpha(ratings_JN: ArrayLike, level: Level = "nominal") -> float:
    """Agreement of any number of raters, who need not have rated everything: 1 is perfect, 0 what chance brings.

    Args:
        ratings_JN: (raters, items), nan where a rater did not rate an item.
        level: what a distance between two ratings means: nominal, they differ; ordinal, how many ratings lie between;
            interval, their difference.

    Returns:
        nan where no item has two ratings, or all ratings are the same.
    """
    ratings = np.asarray(ratings_JN, dtype=np.float64)
    if ratings.ndim != 2:
        raise ValueError(f"ratings have the shape (raters, items), not {ratings.shape}")
    values_K = np.unique(ratings[~np.isnan(ratings)])
    counts_NK = np.array([[np.count_nonzero(item == value) for value in values_K] for item in ratings.T], dtype=float)
    counts_NK = counts_NK.reshape(ratings.shape[1], values_K.size)
    counts_NK = counts_NK[counts_NK.sum(axis=1) > 1]
    rated_N = counts_NK.sum(axis=1)
    meetings_KK = (counts_NK / (rated_N - 1)[:, None]).T @ counts_NK
    meetings_KK -= np.diag((counts_NK / (rated_N - 1)[:, None]).sum(axis=0))
    totals_K = meetings_KK.sum(axis=1)
    if totals_K.sum() < 2:
        return math.nan
    distance_KK = _distances(values_K, totals_K, level)
    expected = float((distance_KK * np.outer(totals_K, totals_K)).sum()) / (float(totals_K.sum()) - 1)
    return 1 - float((distance_KK * meetings_KK).sum()) / expected if expected else math.nan


def _distances(values_K: Floats, totals_K: Floats, level: Level) -> Floats:
    """(K, K), squared."""
    if level == "nominal":
        return 1.0 - np.eye(values_K.size)
    if level == "interval":
        return np.subtract.outer(values_K, values_K) ** 2
    middle_K = np.cumsum(totals_K) - totals_K / 2
    return np.subtract.outer(middle_K, middle_K) ** 2


def best_threshold(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """The score from which on an answer passes, so that scores and labels agree best.

    Best is the largest mean of the two shares, of positive and of negative items, that fall on their right side
    (Youden's index); among equally good thresholds the middle one.

    Args:
        scores: (N,).
        labels: (N,), whether an item should pass.

    Returns:
        Half-way between two scores where it separates some, so that rounding does not decide; nan where all labels are
        the same.
    """
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} scores and {len(labels)} labels are no pairs")
    values_N, should_N = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if should_N.all() or not should_N.any():
        return math.nan
    distinct_U: NDArray[np.float64] = np.unique(values_N)
    thresholds = np.concatenate([distinct_U[:1], (distinct_U[1:] + distinct_U[:-1]) / 2])
    index = np.array([_youden(values_N >= threshold, should_N) for threshold in thresholds])
    best = np.flatnonzero(np.isclose(index, index.max()))
    return float(thresholds[best[(len(best) - 1) // 2]])


def _youden(passes_N: NDArray[np.bool_], should_N: NDArray[np.bool_]) -> float:
    return float(passes_N[should_N].mean() - passes_N[~should_N].mean())
