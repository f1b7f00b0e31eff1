"""How the statistics of many examples become one figure, for many weightings of the examples at once.

Every function here is an `Aggregate`. It works for the sample itself (all weights 1) as for resamples of it, so that
figures which are no mean (a ratio of sums, a percentile, macro F1) get their intervals and tests in the same way.

Shapes: N examples, P statistics of each, R weightings, K labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Aggregate = Callable[[Floats, Floats], Floats]
"""(parts_NP, weights_RN) -> (R,); nan where a figure cannot be told."""

_NEARLY = 1e-9
"""Share of all weight that rounding may take away."""


def mean(parts_NP: Floats, weights_RN: Floats) -> Floats:
    """The mean of the first statistic."""
    with_count_N2 = np.column_stack([parts_NP[:, 0], np.ones(len(parts_NP))])
    return _divided(*(weights_RN @ with_count_N2).T)


def ratio(parts_NP: Floats, weights_RN: Floats) -> Floats:
    """The sum of the first statistic divided by that of the second: errors per word, bits per byte."""
    return _divided(*(weights_RN @ parts_NP[:, :2]).T)


def exp_ratio(parts_NP: Floats, weights_RN: Floats) -> Floats:
    """e to the power of `ratio`: perplexity, of negative log-likelihoods and tokens."""
    return np.exp(ratio(parts_NP, weights_RN))


def quantile(share: float) -> Aggregate:
    """The smallest value of the first statistic that at least this share of the examples does not exceed.

    Source: Hyndman and Fan 1996, "Sample Quantiles in Statistical Packages", definition 1; numpy's `inverted_cdf`.

    Args:
        share: 0 to 1, e.g. 0.95.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is no share")

    def aggregate(parts_NP: Floats, weights_RN: Floats) -> Floats:
        order = np.argsort(parts_NP[:, 0], kind="stable")
        below_RN = np.cumsum(np.take(weights_RN, order, axis=1), axis=1)
        total_R = below_RN[:, -1]
        reached_RN = below_RN >= (total_R * (share - _NEARLY))[:, None]
        reached_RN &= below_RN > 0  # what has no weight is no value
        found_R = parts_NP[order, 0][np.argmax(reached_RN, axis=1)]
        return np.where(total_R > 0, found_R, np.nan)

    return aggregate


def macro_f1(parts_NP: Floats, weights_RN: Floats, *, num_labels: int | None = None) -> Floats:
    """The mean of the labels' F1. A label counts where an example has it, or is said to have it.

    Source: Opitz and Burst 2019, "Macro F1 and Macro F1" (the mean of F1, as scikit-learn computes it).

    Args:
        parts_NP: the number of the true label and of the predicted one; a prediction that is no label (-1) is wrong.
        weights_RN: how often each example counts.
        num_labels: by default up to the largest number.
    """
    true_N, predicted_N = parts_NP[:, 0].astype(np.int64), parts_NP[:, 1].astype(np.int64)
    count = num_labels or int(max(true_N.max(), predicted_N.max())) + 1
    labels_K = np.arange(count)
    is_true_NK = (true_N[:, None] == labels_K).astype(np.float64)
    is_predicted_NK = (predicted_N[:, None] == labels_K).astype(np.float64)
    hits_RK = weights_RN @ (is_true_NK * is_predicted_NK)
    seen_RK = weights_RN @ (is_true_NK + is_predicted_NK)
    f1_RK = np.divide(2 * hits_RK, seen_RK, out=np.zeros_like(seen_RK), where=seen_RK > 0)
    return _divided(f1_RK.sum(axis=1), (seen_RK > 0).sum(axis=1).astype(np.float64))


def auc(parts_NP: Floats, weights_RN: Floats) -> Floats:
    """The area under the ROC curve: how often a positive example has a higher score than a negative one; a tie is half.

    Source: Hanley and McNeil 1982, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC)
    Curve".

    Args:
        parts_NP: whether it is positive (1 or 0), and its score.
        weights_RN: how often each example counts.
    """
    order = np.argsort(parts_NP[:, 1], kind="stable")
    positive_N, scores_N = parts_NP[order, 0], parts_NP[order, 1]
    starts_U = np.flatnonzero(np.concatenate([[True], scores_N[1:] != scores_N[:-1]]))
    sorted_RN = np.take(weights_RN, order, axis=1)
    positive_RU = np.add.reduceat(sorted_RN * positive_N, starts_U, axis=1)
    negative_RU = np.add.reduceat(sorted_RN * (1 - positive_N), starts_U, axis=1)
    below_RU = np.cumsum(negative_RU, axis=1) - negative_RU
    won_R = (positive_RU * (below_RU + negative_RU / 2)).sum(axis=1)
    return _divided(won_R, positive_RU.sum(axis=1) * negative_RU.sum(axis=1))


def _divided(numerator_R: Floats, denominator_R: Floats) -> Floats:
    unknown_R = np.full_like(denominator_R, np.nan)
    return np.divide(numerator_R, denominator_R, out=unknown_R, where=denominator_R != 0)
