"""Whether a difference between two systems, measured on the same examples, is more than chance.

If the systems were alike, it would not matter which of the two an example's outcome is taken from. So the outcomes are
swapped at random, example by example (whole clusters at a time), and the p-value is the share of swaps that bring a
difference at least as large. Nothing is assumed about how scores are distributed, and the figure may be anything.

Sources: Fisher 1935, "The Design of Experiments", section 21; Noreen 1989, "Computer-Intensive Methods for Testing
Hypotheses" (approximate randomization); Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero" (the swap
that was observed counts as one of those that were drawn).

Shapes: N examples, P statistics of each, M examples in which the systems differ, G clusters of those, R swaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genai.metrics.aggregates import Aggregate, Floats
from genai.metrics.resampling import NUM_RESAMPLES, Clusters, cluster_numbers, figure_of

Bits = NDArray[np.uint8]
Rows = NDArray[np.intp]
Correction = Literal["holm", "benjamini_hochberg", "none"]

_NUMBERS_AT_ONCE = 200_000
"""Of a block: what the processor's cache holds."""
_EQUAL = 1e-9
"""A difference that is smaller than the observed one by no more than this share of it is as large: sums of the same
numbers in another order differ by rounding."""


def paired_permutation(
    first_NP: Floats,
    second_NP: Floats,
    aggregate: Aggregate,
    clusters: Clusters | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> float:
    """The chance of a difference that is at least as large, in either direction, if both systems were alike.

    Args:
        first_NP, second_NP: (N, P), statistics of the same examples in the same order.
        aggregate: makes the figure of them.
        clusters: (N,), of the examples; None: all are independent of each other.
        num_resamples: swaps that are tried. Where there are no more than that, each is tried once, and the p-value is
            exact.
        seed: the same seed gives the same p-value.

    Returns:
        The p-value; 1 where both systems are the same on every example; nan where the difference cannot be told.
    """
    if len(first_NP) != len(second_NP) or not len(first_NP):
        raise ValueError(f"{len(first_NP)} and {len(second_NP)} examples are no pairs")
    observed = abs(figure_of(second_NP, aggregate) - figure_of(first_NP, aggregate))
    if np.isnan(observed):
        return float("nan")
    differ_N = np.any(first_NP != second_NP, axis=1)
    if not differ_N.any():
        return 1.0
    of_each_N, _ = cluster_numbers(clusters if clusters is not None else [None] * len(first_NP))
    moving_M = np.flatnonzero(differ_N)  # the others are the same after a swap
    named, of_each_M = np.unique(of_each_N[moving_M], return_inverse=True)
    is_exact = 2 ** min(named.size, 63) <= num_resamples
    at_once = max(1, _NUMBERS_AT_ONCE // (len(first_NP) + moving_M.size))
    drawn = _all_swaps(named.size, at_once) if is_exact else _swaps(named.size, num_resamples, at_once, seed)
    swapped = _Swapped(first_NP, second_NP, moving_M, aggregate)
    hits = told = 0
    for swaps_RG in drawn:
        differences_R = np.abs(swapped.differences(np.take(swaps_RG, of_each_M, axis=1)))
        hits += int((differences_R >= observed * (1 - _EQUAL)).sum())
        told += int((~np.isnan(differences_R)).sum())
    return hits / told if is_exact else (1 + hits) / (1 + told)


class _Swapped:
    """The difference of a figure, once some examples have changed sides."""

    def __init__(self, first_NP: Floats, second_NP: Floats, moving_M: Rows, aggregate: Aggregate) -> None:
        still = np.delete(np.arange(len(first_NP)), moving_M)
        self._first = np.concatenate([first_NP[moving_M], second_NP[moving_M], first_NP[still]])
        self._second = np.concatenate([second_NP[moving_M], first_NP[moving_M], second_NP[still]])
        self._aggregate = aggregate

    def differences(self, swaps_RM: Bits) -> Floats:
        """(R,), given which of the examples in which the systems differ change sides (1) and which do not (0)."""
        moving = swaps_RM.shape[1]
        weights = np.ones((len(swaps_RM), len(self._first)))
        weights[:, moving : 2 * moving] = swaps_RM
        np.subtract(1, swaps_RM, out=weights[:, :moving])
        return self._aggregate(self._second, weights) - self._aggregate(self._first, weights)


def _all_swaps(count: int, at_once: int) -> Iterator[Bits]:
    total = 2**count
    for start in range(0, total, at_once):
        numbers = np.arange(start, min(start + at_once, total))
        yield ((numbers[:, None] >> np.arange(count)) & 1).astype(np.uint8)


def _swaps(count: int, num_resamples: int, at_once: int, seed: int) -> Iterator[Bits]:
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        yield np.unpackbits(generator.integers(256, size=(rows, -(-count // 8)), dtype=np.uint8), axis=1, count=count)


def adjust(p_values: Sequence[float], method: Correction) -> list[float]:
    """Correct p-values for there being several of them: of twenty comparisons one is below 0.05 by chance.

    Sources: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure" (bounds the chance of any false
    alarm); Benjamini and Hochberg 1995, "Controlling the False Discovery Rate" (bounds the share of false alarms).

    Args:
        p_values: one a comparison; nan stays nan, and counts as no comparison.
        method: holm, benjamini_hochberg, or none.

    Returns:
        Adjusted p-values in the same order, each to be compared with the same alpha.
    """
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = given.copy()
    told = np.flatnonzero(~np.isnan(given))
    if method == "none" or not told.size:
        return [float(value) for value in adjusted]
    order = told[np.argsort(given[told], kind="stable")]
    ranks = np.arange(1, order.size + 1)
    if method == "holm":
        stepped = np.maximum.accumulate(given[order] * (order.size - ranks + 1))
    else:
        stepped = np.minimum.accumulate((given[order] * order.size / ranks)[::-1])[::-1]
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
