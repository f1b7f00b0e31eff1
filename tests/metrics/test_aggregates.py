"""Against scikit-learn and numpy; and weighting an example twice is the same as having it twice."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from genai.metrics.aggregates import Aggregate, Floats, auc, exp_ratio, macro_f1, mean, quantile, ratio


def alone(aggregate: Aggregate, parts: Floats) -> float:
    return float(aggregate(parts, np.ones((1, len(parts))))[0])


def of_two(seed: int, num: int = 300) -> Floats:
    generator = np.random.default_rng(seed)
    return np.column_stack([generator.random(num), generator.integers(1, 9, num).astype(float)])


def of_labels(seed: int, num: int = 300) -> Floats:
    generator = np.random.default_rng(seed)
    true = generator.integers(5, size=num)
    return np.column_stack([true, np.where(generator.random(num) < 0.6, true, generator.integers(5, size=num))]) * 1.0


def of_scores(seed: int, num: int = 300) -> Floats:
    generator = np.random.default_rng(seed)
    positive = generator.random(num) < 0.3
    return np.column_stack([positive * 1.0, np.round(generator.normal(positive * 1.0, 1.0), 1)])  # with ties


CASES = [
    pytest.param(mean, of_two, id="mean"),
    pytest.param(ratio, of_two, id="ratio"),
    pytest.param(exp_ratio, of_two, id="exp_ratio"),
    pytest.param(quantile(0.9), of_two, id="quantile"),
    pytest.param(macro_f1, of_labels, id="macro_f1"),
    pytest.param(auc, of_scores, id="auc"),
]


@pytest.mark.parametrize(("aggregate", "made"), CASES)
def test_a_weight_is_a_number_of_times(aggregate: Aggregate, made: partial[Floats]) -> None:
    parts = made(1, num=60)
    weights = np.random.default_rng(2).integers(0, 4, size=(7, 60)).astype(float)
    expected = [alone(aggregate, np.repeat(parts, each.astype(int), axis=0)) for each in weights]
    assert aggregate(parts, weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("aggregate", "made"), CASES)
def test_what_has_no_weight_at_all_cannot_be_told(aggregate: Aggregate, made: partial[Floats]) -> None:
    parts = made(1, num=20)
    figures = aggregate(parts, np.stack([np.zeros(20), np.ones(20)]))
    assert np.isnan(figures[0])
    assert figures[1] == pytest.approx(alone(aggregate, parts))


def test_means_and_ratios_by_hand() -> None:
    parts = np.array([[1.0, 2.0], [3.0, 6.0]])
    assert alone(mean, parts) == 2
    assert alone(ratio, parts) == 0.5
    assert alone(exp_ratio, parts) == pytest.approx(np.exp(0.5))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("num", [1, 2, 19, 20, 100, 101])
def test_quantiles_are_those_of_numpy(share: float, num: int) -> None:
    values = np.random.default_rng(num).random(num)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert alone(quantile(share), values[:, None]) == expected


def test_a_quantile_is_a_share() -> None:
    with pytest.raises(ValueError, match="95 is no share"):
        quantile(95)


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_that_of_scikit_learn(seed: int) -> None:
    parts = of_labels(seed, num=40)
    expected = f1_score(parts[:, 0], parts[:, 1], average="macro", zero_division=0)
    assert alone(macro_f1, parts) == pytest.approx(expected, abs=1e-12)
    assert alone(partial(macro_f1, num_labels=9), parts) == pytest.approx(expected, abs=1e-12)


def test_an_answer_that_is_no_label_is_wrong_and_no_label_of_its_own() -> None:
    parts = np.array([[0.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    assert alone(macro_f1, parts) == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_that_of_scikit_learn(seed: int) -> None:
    parts = of_scores(seed)
    assert alone(auc, parts) == pytest.approx(roc_auc_score(parts[:, 0], parts[:, 1]), abs=1e-12)


def test_auc_needs_both_kinds() -> None:
    assert np.isnan(alone(auc, np.array([[1.0, 0.3], [1.0, 0.4]])))
