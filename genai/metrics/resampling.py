"""Intervals of any figure by the bootstrap: the examples are drawn again, and the figure is computed anew.

Examples that belong together (questions about one document, turns of one conversation) are drawn together, because
each of them says less than an independent one would.

Sources: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile intervals); Davison and
Hinkley 1997, "Bootstrap Methods and their Application", section 3.8 (clusters are drawn whole).

Shapes: N examples, P statistics of each, G clusters, R resamples, F figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genai.metrics.aggregates import Aggregate, Floats

Clusters = Sequence[str | None]
"""Of each example; None: it is a cluster of its own."""
Figure = Callable[[Floats], Floats]
"""weights_RN -> (R,)."""

NUM_RESAMPLES = 10_000
_NUMBERS_AT_ONCE = 200_000
"""Of a block: what the processor's cache holds; ten times as many take twice as long."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and where it would lie if the sample were drawn again."""

    mean: float
    """Of the sample: its mean, or whatever figure was asked for."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    confidence: float
    """The share of resamples whose figure lies between the ends."""


def cluster_numbers(clusters: Clusters) -> tuple[NDArray[np.intp], int]:
    """Number the clusters.

    Returns:
        (N,), the number of each example's cluster, from 0 in the order of their first examples; and how many there are.
    """
    numbers: dict[str | int, int] = {}
    of_each = [numbers.setdefault(row if name is None else name, len(numbers)) for row, name in enumerate(clusters)]
    return np.array(of_each, dtype=np.intp), len(numbers)


def cluster_weights(clusters: Clusters, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """How often each example counts in each resample; clusters are drawn with replacement, as many as there are.

    Args:
        clusters: (N,), of the examples.
        num_resamples: R.
        seed: the same seed gives the same resamples.

    Yields:
        weights_RN in blocks of rows that together have R rows; a block has some 200,000 numbers.
    """
    of_each_N, count = cluster_numbers(clusters)
    if not count:
        raise ValueError("there is no example to be drawn")
    are_alone = count == len(of_each_N)
    generator = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // len(of_each_N))
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        drawn_RG = generator.integers(count, size=(rows, count))
        drawn_RG += np.arange(rows)[:, None] * count
        times_RG = np.bincount(drawn_RG.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        yield times_RG if are_alone else np.take(times_RG, of_each_N, axis=1)


def resample(
    figures: Sequence[Figure], clusters: Clusters, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Floats:
    """Several figures, each computed from the same resamples.

    Args:
        figures: what is computed, given the weights of the examples.
        clusters, num_resamples, seed: see `cluster_weights`.

    Returns:
        (F, R).
    """
    drawn_FR = np.empty((len(figures), num_resamples))
    start = 0
    for weights_RN in cluster_weights(clusters, num_resamples=num_resamples, seed=seed):
        stop = start + len(weights_RN)
        for number, figure in enumerate(figures):
            drawn_FR[number, start:stop] = figure(weights_RN)
        start = stop
    return drawn_FR


def figure_of(parts_NP: Floats, aggregate: Aggregate) -> float:
    """The figure of the sample itself."""
    return float(aggregate(parts_NP, np.ones((1, len(parts_NP))))[0])


def interval_of(figure: float, drawn_R: Floats, *, confidence: float = 0.95) -> Interval:
    """The percentile interval.

    Args:
        figure: of the sample itself.
        drawn_R: of the resamples; those whose figure cannot be told (nan) are left out.
        confidence: between 0 and 1.
    """
    told = drawn_R[~np.isnan(drawn_R)]
    if not told.size:
        return Interval(mean=figure, low=np.nan, high=np.nan, confidence=confidence)
    low, high = np.quantile(told, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=figure, low=float(low), high=float(high), confidence=confidence)


def bootstrap(
    parts_NP: Floats,
    aggregate: Aggregate,
    clusters: Clusters | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of a figure.

    Args:
        parts_NP: (N, P), statistics of the examples.
        aggregate: makes the figure of them.
        clusters: (N,), of the examples; None: all are independent of each other.
        confidence: between 0 and 1.
        num_resamples, seed: see `cluster_weights`.
    """
    of_each = clusters if clusters is not None else [None] * len(parts_NP)
    figures = [lambda weights_RN: aggregate(parts_NP, weights_RN)]
    [drawn_R] = resample(figures, of_each, num_resamples=num_resamples, seed=seed)
    return interval_of(figure_of(parts_NP, aggregate), drawn_R, confidence=confidence)


def paired_bootstrap_of(
    first_NP: Floats,
    second_NP: Floats,
    aggregate: Aggregate,
    clusters: Clusters | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of how much larger the figure of `second_NP` is than that of `first_NP`.

    Both are resampled alike, so that examples which are hard for both cancel out.

    Args:
        first_NP, second_NP: (N, P), statistics of the same examples in the same order.
        aggregate, clusters, confidence, num_resamples, seed: see `bootstrap`.
    """
    if len(first_NP) != len(second_NP):
        raise ValueError(f"{len(first_NP)} and {len(second_NP)} examples are no pairs")
    of_each = clusters if clusters is not None else [None] * len(first_NP)
    figures = [lambda weights_RN: aggregate(second_NP, weights_RN) - aggregate(first_NP, weights_RN)]
    [drawn_R] = resample(figures, of_each, num_resamples=num_resamples, seed=seed)
    difference = figure_of(second_NP, aggregate) - figure_of(first_NP, aggregate)
    return interval_of(difference, drawn_R, confidence=confidence)
