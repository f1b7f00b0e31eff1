"""Against scipy's permutation test, exact tests that can be worked out, and corrections of scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genai.metrics.aggregates import mean, quantile, ratio
from genai.metrics.significance import adjust, paired_permutation


def column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_few_examples_are_swapped_in_every_way() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.random(11), generator.random(11) + 0.2
    theirs = stats.permutation_test(
        (second, first),
        lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    assert paired_permutation(first[:, None], second[:, None], mean) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (5, 0), (6, 0), (9, 1), (8, 5)])
def test_of_right_and_wrong_it_is_the_sign_test(wins: int, losses: int) -> None:
    ties = 500
    first, second = (
        column([0.0] * wins + [1.0] * losses + [1.0] * ties),
        column([1.0] * wins + [0.0] * losses + [1.0] * ties),
    )
    expected = stats.binomtest(wins, wins + losses).pvalue
    assert paired_permutation(first, second, mean) == pytest.approx(expected, abs=1e-12)


def test_many_examples_are_swapped_at_random() -> None:
    generator = np.random.default_rng(2)
    first = generator.random(300)
    second = first + generator.normal(0.03, 0.2, 300)
    expected = stats.ttest_rel(second, first).pvalue
    assert 0.01 < expected < 0.5
    found = paired_permutation(first[:, None], second[:, None], mean, num_resamples=20_000)
    assert found == pytest.approx(expected, abs=0.02)
    assert found == paired_permutation(first[:, None], second[:, None], mean, num_resamples=20_000)
    assert found == pytest.approx(
        paired_permutation(second[:, None], first[:, None], mean, num_resamples=20_000, seed=9), abs=0.015
    )


def test_it_is_never_zero() -> None:
    first = np.zeros((100, 1))
    assert paired_permutation(first, first + 1, mean, num_resamples=999) == pytest.approx(1 / 1000)


def test_clusters_change_sides_as_a_whole() -> None:
    first, second = np.zeros((60, 1)), np.ones((60, 1))
    clusters = [f"document {row // 10}" for row in range(60)]
    assert paired_permutation(first, second, mean, clusters) == pytest.approx(2 / 2**6)
    assert paired_permutation(first, second, mean) < 0.001


def test_figures_that_are_no_mean() -> None:
    generator = np.random.default_rng(3)
    words = generator.integers(5, 50, 200).astype(float)
    errors = generator.poisson(words * 0.2).astype(float)
    first, second = np.column_stack([errors, words]), np.column_stack([generator.poisson(words * 0.1), words])
    assert paired_permutation(first, second, ratio) < 0.001
    assert paired_permutation(first, second * 3, quantile(0.9)) < 0.01


def test_what_is_the_same_everywhere_does_not_differ() -> None:
    parts = np.random.default_rng(0).random((50, 1))
    assert paired_permutation(parts, parts.copy(), mean) == 1.0


def test_what_cannot_be_told_has_no_p_value() -> None:
    assert np.isnan(paired_permutation(np.zeros((3, 2)), np.ones((3, 2)), ratio))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 examples are no pairs"):
        paired_permutation(np.zeros((2, 1)), np.zeros((3, 1)), mean)
    with pytest.raises(ValueError, match="0 and 0"):
        paired_permutation(np.zeros((0, 1)), np.zeros((0, 1)), mean)


# --- corrections ------------------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    assert adjust([0.01, 0.04, 0.03, 0.005], "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust([0.6, 0.7], "holm") == [1.0, 1.0]


def test_without_correction_nothing_changes() -> None:
    assert adjust([0.5, 0.01], "none") == [0.5, 0.01]


def test_what_cannot_be_told_counts_as_no_comparison() -> None:
    adjusted = adjust([float("nan"), 0.02, 0.03], "holm")
    assert np.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])
    assert adjust([], "holm") == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_benjamini_hochberg_is_that_of_scipy(p_values: list[float]) -> None:
    assert adjust(p_values, "benjamini_hochberg") == pytest.approx(list(stats.false_discovery_control(p_values)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_at_least_as_strict_as_benjamini_hochberg(p_values: list[float]) -> None:
    holm, hochberg = adjust(p_values, "holm"), adjust(p_values, "benjamini_hochberg")
    for given_, strict, mild in zip(p_values, holm, hochberg, strict=True):
        assert given_ <= mild + 1e-12
        assert mild <= strict + 1e-12
        assert strict <= 1
