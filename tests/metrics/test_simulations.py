"""Statistics by what they promise: thousands of experiments each whose truth is known.

The share of experiments that a test with the level 0.05 calls different has a standard deviation of 0.0034 where there
are 4,000, and of 0.005 where there are 2,000: 0.04 to 0.06 is what a right test keeps to, and hardly any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from genai.metrics.aggregates import Aggregate, Floats, mean, quantile, ratio
from genai.metrics.resampling import bootstrap, paired_bootstrap_of
from genai.metrics.sample_size import examples_needed
from genai.metrics.significance import adjust, paired_permutation

pytestmark = pytest.mark.slow

TRIALS, SWAPS = 2000, 999
TRIALS_OF_LEVEL = 4000
Pair = tuple[Floats, Floats]
Experiment = Callable[[np.random.Generator], tuple[Floats, Floats, Sequence[str | None]]]


def clusters_of(generator: np.random.Generator, num: int) -> tuple[np.ndarray, list[str]]:
    """Clusters of 1 to 9 rows: the number of each row's, and its name."""
    numbers = np.repeat(np.arange(num), generator.integers(1, 10, num))
    return numbers, [f"document {number}" for number in numbers]


def scores(generator: np.random.Generator) -> tuple[Floats, Floats, Sequence[str | None]]:
    """Two systems that are alike, on 60 questions of unlike hardness."""
    hardness = generator.beta(0.7, 0.7, 60)
    first, second = (np.clip(hardness + generator.normal(0, 0.2, 60), 0, 1) for _ in range(2))
    return first[:, None], second[:, None], [None] * 60


def skewed(generator: np.random.Generator) -> tuple[Floats, Floats, Sequence[str | None]]:
    """The second is often a little worse and seldom a lot better; the means are alike."""
    first = generator.random(400)
    return first[:, None], (first + generator.exponential(0.3, 400) - 0.3)[:, None], [None] * 400


def clustered_scores(generator: np.random.Generator) -> tuple[Floats, Floats, Sequence[str | None]]:
    """On some documents the one is better in most questions, on some the other; on the whole they are alike."""
    numbers, names = clusters_of(generator, 40)
    hardness = generator.random(40)[numbers] + generator.normal(0, 0.1, len(numbers))
    first, second = (
        hardness + generator.normal(0, 0.15, 40)[numbers] + generator.normal(0, 0.1, len(numbers)) for _ in range(2)
    )
    return first[:, None], second[:, None], names


def bits(generator: np.random.Generator) -> tuple[Floats, Floats, Sequence[str | None]]:
    """Bits that two models need for texts of unlike length, and their bytes."""
    size = generator.geometric(0.01, 60) + 20.0
    rates = generator.gamma(8, 0.1, 60)
    first, second = (np.column_stack([size * rates * generator.lognormal(0, 0.3, 60), size]) for _ in range(2))
    return first, second, [None] * 60


def clustered_bits(generator: np.random.Generator) -> tuple[Floats, Floats, Sequence[str | None]]:
    """The same, where each document suits the one model or the other."""
    numbers, names = clusters_of(generator, 40)
    size = generator.geometric(0.01, len(numbers)) + 20.0
    first, second = (
        np.column_stack([size * generator.gamma(8, 0.1, 40)[numbers] * generator.lognormal(0, 0.3, len(numbers)), size])
        for _ in range(2)
    )
    return first, second, names


def errors(generator: np.random.Generator) -> tuple[Floats, Floats, Sequence[str | None]]:
    """Words that are wrong in texts of unlike length."""
    words = generator.geometric(0.05, 60) + 3.0
    rates = generator.gamma(2, 0.1, 60)
    first, second = (np.column_stack([generator.poisson(rates * words), words]) for _ in range(2))
    return first, second, [None] * 60


def right_and_wrong(generator: np.random.Generator) -> tuple[Floats, Floats, Sequence[str | None]]:
    """Answers of two systems that know as much."""
    easy = generator.beta(0.5, 0.5, (100, 1))
    return (generator.random((100, 1)) < easy) * 1.0, (generator.random((100, 1)) < easy) * 1.0, [None] * 100


def share_called_different(
    experiment: Experiment, aggregate: Aggregate, *, trials: int = TRIALS, heed_clusters: bool = True
) -> float:
    generator = np.random.default_rng(1)
    called = 0
    for trial in range(trials):
        first, second, clusters = experiment(generator)
        of_each = clusters if heed_clusters else None
        called += paired_permutation(first, second, aggregate, of_each, num_resamples=SWAPS, seed=trial) <= 0.05
    return called / trials


# --- what is alike ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "aggregate"),
    [
        pytest.param(scores, mean, id="mean"),
        pytest.param(skewed, mean, id="mean of skewed differences"),
        pytest.param(clustered_scores, mean, id="mean, clustered"),
        pytest.param(bits, ratio, id="ratio"),
        pytest.param(clustered_bits, ratio, id="ratio, clustered"),
    ],
)
def test_systems_that_are_alike_are_called_different_as_often_as_was_said(
    experiment: Experiment, aggregate: Aggregate
) -> None:
    assert 0.04 <= share_called_different(experiment, aggregate, trials=TRIALS_OF_LEVEL) <= 0.06


@pytest.mark.parametrize(("experiment", "aggregate"), [(clustered_scores, mean), (clustered_bits, ratio)])
def test_without_clusters_many_alarms_are_false(experiment: Experiment, aggregate: Aggregate) -> None:
    assert share_called_different(experiment, aggregate, trials=500, heed_clusters=False) > 0.15


@pytest.mark.parametrize(
    ("experiment", "aggregate"),
    [
        pytest.param(right_and_wrong, mean, id="mean"),
        pytest.param(errors, ratio, id="ratio"),
        pytest.param(scores, quantile(0.9), id="quantile"),
    ],
)
def test_figures_of_few_values_bring_no_more_false_alarms(experiment: Experiment, aggregate: Aggregate) -> None:
    # Many swaps bring the very same difference, all of which count as large: the test errs on the side of silence.
    assert 0.02 <= share_called_different(experiment, aggregate) <= 0.055


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_of_many_comparisons_few_experiments_have_any_false_alarm(method: str) -> None:
    generator = np.random.default_rng(2)
    alarms = uncorrected = 0
    for trial in range(TRIALS):
        p_values = []
        for number in range(5):
            first, second, _ = scores(generator)
            p_values.append(paired_permutation(first, second, mean, num_resamples=SWAPS, seed=5 * trial + number))
        alarms += min(adjust(p_values, method)) <= 0.05  # type: ignore[arg-type]
        uncorrected += min(p_values) <= 0.05
    assert 0.035 <= alarms / TRIALS <= 0.06
    assert uncorrected / TRIALS > 0.2


# --- what differs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [0.02, 0.05])
def test_a_difference_is_seen_at_the_stated_number_of_examples_as_often_as_was_said(effect: float) -> None:
    generator = np.random.default_rng(3)

    def pair(num: int, better_by: float) -> Pair:
        hardness = generator.random(num)
        first, second = (hardness + generator.normal(0, 0.12, num) for _ in range(2))
        return first[:, None], second[:, None] + better_by

    first, second = pair(2000, 0.0)
    needed = examples_needed((second - first)[:, 0], effect=effect, power=0.8)
    assert needed is not None
    seen = sum(
        paired_permutation(*pair(needed, effect), mean, num_resamples=SWAPS, seed=trial) <= 0.05
        for trial in range(TRIALS)
    )
    assert 0.77 <= seen / TRIALS <= 0.83


def test_the_stated_number_is_right_for_clusters_too() -> None:
    generator = np.random.default_rng(4)

    def pair(num_clusters: int, better_by: float) -> tuple[Floats, Floats, list[str]]:
        numbers = np.repeat(np.arange(num_clusters), 6)
        first, second = (
            generator.normal(0, 0.1, num_clusters)[numbers] + generator.normal(0, 0.15, len(numbers)) for _ in range(2)
        )
        return first[:, None], second[:, None] + better_by, [str(number) for number in numbers]

    first, second, names = pair(800, 0.0)
    needed = examples_needed((second - first)[:, 0], names, effect=0.05, power=0.9)
    unclustered = examples_needed((second - first)[:, 0], effect=0.05, power=0.9)
    assert needed is not None
    assert unclustered is not None
    assert needed > 1.8 * unclustered
    seen = 0
    for trial in range(TRIALS):
        first, second, names = pair(-(-needed // 6), 0.05)
        seen += paired_permutation(first, second, mean, names, num_resamples=SWAPS, seed=trial) <= 0.05
    assert 0.87 <= seen / TRIALS <= 0.93


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "aggregate", "truth"),
    [
        pytest.param(scores, mean, 0.5, id="mean"),
        pytest.param(clustered_scores, mean, 0.5, id="mean, clustered"),
        pytest.param(bits, ratio, 0.8 * np.exp(0.3**2 / 2), id="ratio"),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    experiment: Experiment, aggregate: Aggregate, truth: float
) -> None:
    generator = np.random.default_rng(5)
    of_figure = of_difference = 0
    for trial in range(TRIALS):
        first, second, clusters = experiment(generator)
        interval = bootstrap(first, aggregate, clusters, num_resamples=SWAPS, seed=trial)
        of_figure += interval.low <= truth <= interval.high
        paired = paired_bootstrap_of(first, second, aggregate, clusters, num_resamples=SWAPS, seed=trial)
        of_difference += paired.low <= 0 <= paired.high
    assert 0.92 <= of_figure / TRIALS <= 0.965
    assert 0.92 <= of_difference / TRIALS <= 0.965
