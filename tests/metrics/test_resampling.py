"""Against scipy's bootstrap and what follows from how clusters are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from genai.metrics.aggregates import mean, quantile, ratio
from genai.metrics.resampling import (
    bootstrap,
    cluster_numbers,
    cluster_weights,
    figure_of,
    interval_of,
    paired_bootstrap_of,
    resample,
)

CLUSTERED = ["a", "b", None, "a", None, "b", "a"]


def test_clusters_are_numbered_and_what_has_none_is_its_own() -> None:
    numbers, count = cluster_numbers(CLUSTERED)
    assert numbers.tolist() == [0, 1, 2, 0, 3, 1, 0]
    assert count == 4
    assert cluster_numbers([])[1] == 0


def test_a_cluster_named_like_a_number_is_no_row() -> None:
    numbers, count = cluster_numbers([None, "0", None, "2"])
    assert numbers.tolist() == [0, 1, 2, 3]
    assert count == 4


def test_clusters_are_drawn_whole_and_as_many_as_there_are() -> None:
    weights = np.concatenate(list(cluster_weights(CLUSTERED, num_resamples=500, seed=3)))
    assert weights.shape == (500, 7)
    assert (weights[:, 0] == weights[:, 3]).all()
    assert (weights[:, 0] == weights[:, 6]).all()
    assert (weights[:, 1] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 2, 4]].sum(axis=1) == 4).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)


def test_blocks_are_bounded_and_change_nothing() -> None:
    blocks = list(cluster_weights([None] * 3000, num_resamples=150, seed=1))
    assert len(blocks) > 1
    assert max(block.size for block in blocks) <= 200_000
    assert sum(map(len, blocks)) == 150
    again = list(cluster_weights([None] * 3000, num_resamples=10, seed=1))
    assert (blocks[0][:10] == again[0]).all()


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="no example"):
        list(cluster_weights([], num_resamples=5))


def test_intervals_are_those_of_scipy() -> None:
    generator = np.random.default_rng(4)
    parts = np.column_stack([generator.gamma(2, size=250), generator.integers(1, 20, 250)])
    ours = bootstrap(parts, ratio, confidence=0.9, seed=1)
    theirs = stats.bootstrap(
        (parts[:, 0], parts[:, 1]),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=0.9,
        rng=generator,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.mean == pytest.approx(parts[:, 0].sum() / parts[:, 1].sum())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)


def test_rows_that_are_copies_are_no_evidence() -> None:
    values = np.random.default_rng(0).random((50, 1))
    copied, clusters = np.repeat(values, 9, axis=0), [f"c{row // 9}" for row in range(450)]
    alone, together, as_if = bootstrap(values, mean), bootstrap(copied, mean, clusters), bootstrap(copied, mean)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-9)
    assert as_if.high - as_if.low == pytest.approx((alone.high - alone.low) / 3, rel=0.05)


def test_several_figures_come_from_the_same_resamples() -> None:
    values = np.random.default_rng(0).random((40, 1))
    figures = [lambda weights: mean(values, weights), lambda weights: mean(values * 2, weights)]
    drawn = resample(figures, [None] * 40, num_resamples=100, seed=1)
    assert drawn.shape == (2, 100)
    assert drawn[1] == pytest.approx(2 * drawn[0])


def test_a_difference_is_second_minus_first_and_pairs_make_it_narrow() -> None:
    generator = np.random.default_rng(1)
    first = generator.random((200, 1))
    second = first + 0.1 + generator.normal(0, 0.01, (200, 1))
    interval = paired_bootstrap_of(first, second, mean)
    assert interval.mean == pytest.approx(0.1, abs=0.003)
    assert interval.high - interval.low < 0.005
    assert paired_bootstrap_of(first, second, quantile(0.5)).mean == pytest.approx(0.1, abs=0.03)
    with pytest.raises(ValueError, match="200 and 1 examples are no pairs"):
        paired_bootstrap_of(first, second[:1], mean)


def test_resamples_of_which_nothing_can_be_told_are_left_out() -> None:
    interval = interval_of(0.5, np.array([np.nan, 0.4, 0.6, np.nan]), confidence=1.0)
    assert (interval.low, interval.high) == (0.4, 0.6)
    nothing = interval_of(np.nan, np.array([np.nan]))
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_the_figure_of_the_sample() -> None:
    assert figure_of(np.array([[1.0], [2.0]]), mean) == 1.5
