"""Against scikit-learn, and the example that Krippendorff himself works out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, confusion_matrix

from genai.metrics.agreement import best_threshold, cohen_kappa, confusion, krippendorff_alpha

NAN = math.nan
OF_KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]
"""Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D: 4 observers, 12 units."""


def two_raters(seed: int) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(seed)
    first = generator.integers(1, 6, 80)
    second = np.clip(first + generator.integers(-1, 2, 80), 1, 5)
    return first.tolist(), second.tolist()


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
@pytest.mark.parametrize("seed", range(4))
def test_kappa_is_that_of_scikit_learn(seed: int, weights: str | None) -> None:
    first, second = two_raters(seed)
    expected = cohen_kappa_score(first, second, weights=weights)
    assert cohen_kappa(first, second, weights) == pytest.approx(expected, abs=1e-12)  # type: ignore[arg-type]


def test_labels_that_do_not_occur_keep_their_distance() -> None:
    first, second = [1, 1, 5, 5, 1], [1, 5, 5, 5, 1]
    assert cohen_kappa(first, second, "linear") == pytest.approx(cohen_kappa(first, second))
    first, second = [1, 1, 5, 4, 1], [1, 5, 5, 5, 1]
    near = cohen_kappa(first, second, "quadratic", labels=[1, 2, 3, 4, 5])
    assert near == pytest.approx(cohen_kappa_score(first, second, labels=[1, 2, 3, 4, 5], weights="quadratic"))
    assert near != pytest.approx(cohen_kappa(first, second, "quadratic"))


def test_kappa_of_words_and_of_one_label_alone() -> None:
    assert cohen_kappa(["good", "bad"], ["good", "bad"]) == 1
    assert math.isnan(cohen_kappa(["good", "good"], ["good", "good"]))


def test_confusion_is_that_of_scikit_learn() -> None:
    first, second = two_raters(0)
    table = confusion(first, second)
    assert table.labels == (1, 2, 3, 4, 5)
    assert np.array(table.counts).tolist() == confusion_matrix(first, second).tolist()
    assert confusion([True], [True], labels=[False, True]).counts == ((0, 0), (0, 1))


def test_labels_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="2 and 1 labels are no pairs"):
        confusion([1, 2], [1])
    with pytest.raises(ValueError, match="0 and 0"):
        cohen_kappa([], [])


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_krippendorff(level: str, alpha: float) -> None:
    assert krippendorff_alpha(OF_KRIPPENDORFF, level) == pytest.approx(alpha, abs=5e-4)  # type: ignore[arg-type]


def test_alpha_of_those_who_agree_and_of_chance() -> None:
    assert krippendorff_alpha([[1, 2, 3], [1, 2, 3]]) == 1
    ratings = np.random.default_rng(0).integers(3, size=(3, 4000))
    assert krippendorff_alpha(ratings) == pytest.approx(0, abs=0.03)
    assert krippendorff_alpha([[1, 2] * 20, [2, 1] * 20]) < -0.9


def test_alpha_that_cannot_be_told() -> None:
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]]))
    assert math.isnan(krippendorff_alpha([[1, NAN], [NAN, 2]]))
    assert math.isnan(krippendorff_alpha(np.full((2, 3), NAN)))
    with pytest.raises(ValueError, match=r"not \(2,\)"):
        krippendorff_alpha([1, 2])


def test_the_threshold_that_fits() -> None:
    assert best_threshold([0.1, 0.2, 0.8, 0.9], [False, False, True, True]) == pytest.approx(0.5)
    assert math.isnan(best_threshold([0.1, 0.9], [True, True]))
    with pytest.raises(ValueError, match="1 scores and 2 labels"):
        best_threshold([0.1], [True, False])


@pytest.mark.parametrize("seed", range(4))
def test_no_other_threshold_fits_better(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.random(60) < 0.2
    scores = np.round(generator.normal(labels * 1.0, 1.0), 1)
    threshold = best_threshold(scores.tolist(), labels.tolist())
    found = balanced_accuracy_score(labels, scores >= threshold)
    others = [balanced_accuracy_score(labels, scores >= other) for other in np.arange(-4, 5, 0.05)]
    assert found >= max(others) - 1e-12
