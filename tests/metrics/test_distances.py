"""Against the formula with scipy's matrix root, and cases that can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from genai.metrics.distances import frechet_distance, inception_style_score


def by_the_formula(first: np.ndarray, second: np.ndarray) -> float:
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    means = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    return float(means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root))


@pytest.mark.parametrize(("num", "other", "dimensions"), [(300, 200, 8), (50, 60, 20), (64, 500, 16)])
def test_it_is_what_the_formula_says(num: int, other: int, dimensions: int) -> None:
    generator = np.random.default_rng(num)
    first = generator.normal(size=(num, dimensions)) @ generator.normal(size=(dimensions, dimensions))
    second = generator.normal(0.3, 1.0, size=(other, dimensions))
    assert frechet_distance(first, second) == pytest.approx(by_the_formula(first, second), rel=1e-7)


def test_fewer_items_than_dimensions_are_no_trouble() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(10, 512)), generator.normal(1.0, 1.0, size=(700, 512))
    assert np.isfinite(frechet_distance(first, second))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))


def test_a_shift_counts_by_its_square() -> None:
    items = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    assert frechet_distance(items, items + np.float32(2)) == pytest.approx(4 * 4, rel=1e-5)


def test_of_one_dimension_it_is_the_difference_of_means_and_deviations() -> None:
    first, second = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0]])
    deviations = np.sqrt(2), np.sqrt(8)
    assert frechet_distance(first, second) == pytest.approx(6**2 + (deviations[0] - deviations[1]) ** 2)


@pytest.mark.parametrize("second", [np.zeros((3, 5)), np.zeros((1, 4)), np.zeros(4)])
def test_embeddings_that_do_not_fit_are_refused(second: np.ndarray) -> None:
    with pytest.raises(ValueError, match="have the shapes"):
        frechet_distance(np.zeros((3, 4)), second)


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.zeros((3, 2)), np.array([[0.0, np.inf], [0.0, 0.0]]))


def test_sure_and_varied_is_the_number_of_classes() -> None:
    assert inception_style_score(np.eye(7)) == pytest.approx(7)
    assert inception_style_score(np.full((5, 4), 0.25)) == pytest.approx(1)
    assert inception_style_score([[1, 0], [1, 0]]) == pytest.approx(1)
    by_hand = np.exp(
        np.mean([0.9 * np.log(0.9 / 0.6) + 0.1 * np.log(0.1 / 0.4), 0.3 * np.log(0.5) + 0.7 * np.log(1.75)])
    )
    assert inception_style_score([[0.9, 0.1], [0.3, 0.7]]) == pytest.approx(by_hand)


@pytest.mark.parametrize("wrong", [[[0.5, 0.4]], [[1.5, -0.5]]])
def test_what_is_no_probability_is_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        inception_style_score(wrong)
    with pytest.raises(ValueError, match="shape"):
        inception_style_score([0.5, 0.5])
