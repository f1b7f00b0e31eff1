"""Against the normal approximation, which a bootstrap of a mean meets for many values."""

from __future__ import annotations

import numpy as np
import pytest

from genai.metrics.statistics import bootstrap_interval, paired_bootstrap


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=2000)
    interval = bootstrap_interval(values)
    spread = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - spread, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + spread, abs=0.01)
    assert interval.confidence == 0.95


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    held = 0
    for trial in range(200):
        interval = bootstrap_interval(generator.random(60), num_resamples=500, seed=trial, confidence=0.9)
        held += interval.low <= 0.5 <= interval.high
    assert 0.82 <= held / 200 <= 0.96


def test_pairs_give_a_narrower_interval_than_means() -> None:
    generator = np.random.default_rng(3)
    hardness = generator.random(400)
    first, second = hardness, hardness + 0.02 + generator.normal(0, 0.01, 400)
    paired = paired_bootstrap(first, second)
    assert paired.mean == pytest.approx(0.02, abs=0.003)
    assert paired.low > 0.015
    alone = bootstrap_interval(first)
    assert alone.high - alone.low > 5 * (paired.high - paired.low)


def test_the_sign_is_that_of_second_minus_first() -> None:
    assert paired_bootstrap([1.0, 1.0, 0.0], [0.0, 0.5, 0.0]).mean == pytest.approx(-0.5)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(40)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_equal_values_leave_no_room() -> None:
    interval = paired_bootstrap([0.5] * 10, [0.5] * 10)
    assert (interval.low, interval.mean, interval.high) == (0, 0, 0)


def test_large_samples_are_drawn_in_blocks() -> None:
    values = np.random.default_rng(0).random(30_000)
    interval = bootstrap_interval(values, num_resamples=300)
    assert interval.low < values.mean() < interval.high


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="no pairs"):
        paired_bootstrap([1.0], [1.0, 2.0])
