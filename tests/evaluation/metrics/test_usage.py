from __future__ import annotations

import numpy as np
import pytest
from metric_examples import answered, figure_of, likelihoods, metric_of, reason_of, score_of, searched, value_of

from genai.errors import UsageError
from genai.evaluation.records import Answer, Failure, Ranking, Usage


def answer(**usage: float) -> Answer:
    """An answer that took so much."""
    return Answer(text="a", usage=Usage(**usage))  # type: ignore[arg-type]


@pytest.mark.parametrize("percentile", [None, 50.0, 99.0, 100.0])
def test_latency_is_a_percentile(percentile: float | None) -> None:
    metric = metric_of("latency_s", percentile=percentile)
    seconds = np.random.default_rng(1).gamma(2, size=101)
    scores = [score_of(metric, answered("a"), answer(latency_s=each)) for each in seconds]
    expected = np.percentile(seconds, percentile or 95.0, method="inverted_cdf")
    assert figure_of(metric, scores) == expected
    assert (metric.unit, metric.higher_is_better) == ("s", False)


def test_time_to_the_first_token() -> None:
    assert value_of(metric_of("ttft_s"), answered("a"), answer(ttft_s=0.25)) == 0.25
    assert "stream: true" in reason_of(metric_of("ttft_s"), answered("a"), answer(latency_s=1.0))


def test_tokens_and_price_are_means() -> None:
    tokens, price = metric_of("output_tokens"), metric_of("cost_usd")
    outcomes = [answer(completion_tokens=4, usd=0.5), answer(completion_tokens=8, usd=0.0)]
    assert figure_of(tokens, [score_of(tokens, answered("a"), each) for each in outcomes]) == 6
    assert figure_of(price, [score_of(price, answered("a"), each) for each in outcomes]) == 0.25
    assert (tokens.unit, price.unit) == ("tokens", "usd")


def test_what_nobody_measured_is_not_scored_as_nothing() -> None:
    assert "was not measured" in reason_of(metric_of("latency_s"), answered("a"), answer())
    assert "no price is known" in reason_of(metric_of("cost_usd"), answered("a"), answer())
    assert "did not say how many tokens" in reason_of(metric_of("output_tokens"), answered("a"), answer())
    assert value_of(metric_of("output_tokens"), answered("a"), Answer(text="")) == 0
    assert "this is a failure: no answer" in reason_of(
        metric_of("latency_s"), answered("a"), Failure(reason="no answer", usage=Usage(latency_s=120))
    )


def test_every_outcome_takes_time() -> None:
    ranking = Ranking(keys=("a",), usage=Usage(latency_s=0.5))
    assert value_of(metric_of("latency_s", "retrieval"), searched(a=1), ranking) == 0.5
    assert "was not measured" in reason_of(metric_of("latency_s", "text"), answered("a"), likelihoods(-1.0))


@pytest.mark.parametrize("percentile", [0.0, -5.0, 101.0])
def test_a_percentile_that_is_none_is_refused(percentile: float) -> None:
    with pytest.raises(UsageError, match="'latency_s' has percentile"):
        metric_of("latency_s", percentile=percentile)
