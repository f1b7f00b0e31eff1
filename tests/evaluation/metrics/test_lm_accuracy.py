from __future__ import annotations

from metric_examples import chosen_among, likelihoods, metric_of, value_of


def test_the_model_must_have_said_every_token_itself() -> None:
    metric = metric_of("lm_accuracy", "language_modeling")
    example = chosen_among("Paris", gold=None, kind="language_modeling")
    assert value_of(metric, example, likelihoods(-1.0, is_greedy=True)) == 1
    assert value_of(metric, example, likelihoods(-1.0, is_greedy=False)) == 0
