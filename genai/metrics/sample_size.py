"""How many examples it takes to see a difference.

The standard error of a difference falls with the root of the number of clusters, so that the one that was measured
tells what another number of examples would bring. With few clusters the normal distribution promises too much, which
Guenther's correction makes up for.

Sources: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2; Guenther 1981, "Sample Size
Formulas for Normal Theory T Tests"; Kish 1965, "Survey Sampling", chapter 5 (clusters).

Shapes: N examples, G clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from genai.metrics.resampling import Clusters, cluster_numbers

EFFECT = 0.02
"""A difference of 2 points, which is worth seeing in most figures that are shares."""
_NORMAL = NormalDist()


def standard_error(differences: Sequence[float] | NDArray[np.floating], clusters: Clusters | None = None) -> float:
    """Of the mean of differences.

    Args:
        differences: (N,), between two systems, example by example.
        clusters: (N,), of the examples; None: all are independent of each other.

    Returns:
        nan where there are fewer than two clusters.
    """
    values_N = np.asarray(differences, dtype=np.float64)
    of_each_N, count = cluster_numbers(clusters if clusters is not None else [None] * values_N.size)
    if count < 2:
        return math.nan
    sums_G = np.bincount(of_each_N, weights=values_N - values_N.mean(), minlength=count)
    return float(np.sqrt((sums_G**2).sum() * count / (count - 1)) / values_N.size)


def examples_needed(
    differences: Sequence[float] | NDArray[np.floating],
    clusters: Clusters | None = None,
    *,
    effect: float = EFFECT,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """How many examples, of the same kind and clustered alike, show a difference of `effect`.

    Args:
        differences: (N,), between two systems, example by example.
        clusters: (N,), of the examples; None: all are independent of each other.
        effect: the difference of the means that is to be seen.
        alpha: of the two-sided test that is to see it.
        power: how often it should.

    Returns:
        None where it cannot be told: fewer than two clusters, or no difference anywhere.
    """
    _, count = cluster_numbers(clusters if clusters is not None else [None] * len(differences))
    error = standard_error(differences, clusters)
    return examples_for(error, len(differences), count, effect=effect, alpha=alpha, power=power)


def examples_for(
    error: float, num: int, num_clusters: int, *, effect: float = EFFECT, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """As `examples_needed`, of any figure.

    Args:
        error: standard error of the difference that was measured, e.g. the spread of its resamples.
        num: examples on which it was measured.
        num_clusters: of them.
        effect, alpha, power: see `examples_needed`.
    """
    if not (math.isfinite(error) and error > 0):
        return None
    at_alpha = _NORMAL.inv_cdf(1 - alpha / 2)
    clusters = num_clusters * (error * (at_alpha + _NORMAL.inv_cdf(power)) / effect) ** 2 + at_alpha**2 / 2
    return math.ceil(max(clusters, fewest_clusters(alpha)) * num / num_clusters)


def power_of(error: float, *, effect: float = EFFECT, alpha: float = 0.05) -> float:
    """How often a two-sided test sees a difference of `effect`.

    Args:
        error: standard error of the difference.
        effect: the true difference.
        alpha: of the test.

    Returns:
        Between 0 and 1; nan where the error is not known.
    """
    if not (math.isfinite(error) and error > 0):
        return math.nan
    at_alpha, distance = _NORMAL.inv_cdf(1 - alpha / 2), abs(effect) / error
    return _NORMAL.cdf(distance - at_alpha) + _NORMAL.cdf(-distance - at_alpha)


def fewest_clusters(alpha: float = 0.05) -> int:
    """With fewer of them nothing is rare enough for a test that swaps whole ones: winning all is no proof."""
    return 1 + math.ceil(math.log2(1 / alpha))
