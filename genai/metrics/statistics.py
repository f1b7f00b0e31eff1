"""How far a mean can be trusted: intervals by the bootstrap.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile intervals); Sakai 2006,
"Evaluating evaluation metrics based on the bootstrap" (paired, over queries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NUMBERS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and where it would lie if the sample were drawn again."""

    mean: float
    """Of the sample."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    confidence: float
    """The share of resamples whose mean lies between the ends."""


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.floating],
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The percentile interval of a mean.

    Args:
        values: (n,), one a query or row, independent of each other.
        confidence: between 0 and 1.
        num_resamples: means of n values drawn with replacement.
        seed: the same seed gives the same interval.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError("a mean needs at least one value")
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    at_once = max(1, _NUMBERS_AT_ONCE // sample.size)
    for start in range(0, num_resamples, at_once):
        block = means[start : start + at_once]
        block[:] = sample[generator.integers(sample.size, size=(block.size, sample.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(sample.mean()), low=float(low), high=float(high), confidence=confidence)


def paired_bootstrap(
    first: Sequence[float] | NDArray[np.floating],
    second: Sequence[float] | NDArray[np.floating],
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The interval of the mean of `second - first`, where both were measured on the same queries.

    Queries that are hard for both cancel out, so the interval is narrower than those of the two means.

    Args:
        first, second: (n,), in the same order of queries.
        confidence, num_resamples, seed: see `bootstrap_interval`.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are no pairs")
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    return bootstrap_interval(differences, confidence=confidence, num_resamples=num_resamples, seed=seed)
