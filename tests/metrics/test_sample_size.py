"""Against the t distribution of scipy; whether it is kept is seen by simulation in test_simulations.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from genai.metrics.sample_size import examples_for, examples_needed, fewest_clusters, power_of, standard_error


def power_of_t_test(num: int, effect: float, spread: float, alpha: float) -> float:
    """Of a paired t test, by the noncentral t distribution."""
    limit = stats.t.ppf(1 - alpha / 2, num - 1)
    noncentral = stats.nct(num - 1, effect / spread * math.sqrt(num))
    return float(noncentral.sf(limit) + noncentral.cdf(-limit))


@pytest.mark.parametrize("effect", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9), (0.1, 0.5)])
def test_it_is_what_a_t_test_needs(effect: float, alpha: float, power: float) -> None:
    differences = np.random.default_rng(0).normal(0, 0.5, 400)
    spread = float(differences.std(ddof=1))
    needed = examples_needed(differences, effect=effect, alpha=alpha, power=power)
    assert needed is not None
    assert power_of_t_test(needed, effect, spread, alpha) >= power - 0.005
    assert power_of_t_test(math.floor(needed * 0.97) - 1, effect, spread, alpha) < power


def test_rows_that_are_copies_count_once() -> None:
    differences = np.random.default_rng(0).normal(0, 0.5, 100)
    alone = examples_needed(differences)
    together = examples_needed(np.repeat(differences, 7), [f"c{row // 7}" for row in range(700)])
    assert alone is not None
    assert together == pytest.approx(7 * alone, abs=7)


def test_the_standard_error_is_that_of_a_mean() -> None:
    differences = np.random.default_rng(0).normal(0, 0.5, 100)
    assert standard_error(differences) == pytest.approx(stats.sem(differences))
    assert math.isnan(standard_error([0.4]))
    assert math.isnan(standard_error([0.4, 0.5], ["a", "a"]))


def test_what_cannot_be_told() -> None:
    assert examples_needed([0.0] * 50) is None
    assert examples_needed([0.3]) is None
    assert examples_for(math.nan, 10, 10) is None
    assert math.isnan(power_of(math.nan))


def test_a_large_effect_still_takes_as_many_as_a_test_can_do_with() -> None:
    assert examples_needed([0.1, 0.11, 0.09], effect=5.0) == fewest_clusters(0.05) == 6
    assert fewest_clusters(0.01) == 8
    assert 2 * 0.5 ** fewest_clusters(0.05) <= 0.05 < 2 * 0.5 ** (fewest_clusters(0.05) - 1)


def test_power_is_reached_at_the_needed_number() -> None:
    error = 0.5 / math.sqrt(400)
    needed = examples_for(error, 400, 400, effect=0.05, power=0.8)
    assert needed is not None
    assert power_of(0.5 / math.sqrt(needed), effect=0.05) == pytest.approx(0.8, abs=0.005)
    assert power_of(error, effect=0.0) == pytest.approx(0.05)
