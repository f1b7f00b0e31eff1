"""How far a mean can be trusted: intervals by the bootstrap, where each query or row has one value.

`genai.metrics.resampling` does the same for any figure, and for rows that belong together.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile intervals); Sakai 2006,
"Evaluating evaluation metrics based on the bootstrap" (paired, over queries).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genai.metrics.aggregates import mean
from genai.metrics.resampling import NUM_RESAMPLES, Interval, bootstrap

__all__ = ["Interval", "bootstrap_interval", "paired_bootstrap"]


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.floating],
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
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
    return bootstrap(sample[:, None], mean, confidence=confidence, num_resamples=num_resamples, seed=seed)


def paired_bootstrap(
    first: Sequence[float] | NDArray[np.floating],
    second: Sequence[float] | NDArray[np.floating],
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
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
