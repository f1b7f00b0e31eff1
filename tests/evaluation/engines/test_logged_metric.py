"""Scores that another product made are given as they are."""

from __future__ import annotations

import asyncio

import numpy as np

from genai.evaluation.engines.logged_metric import LoggedMetric
from genai.evaluation.records import Answer, Chat, Example, Score, Unscored
from genai.metrics.aggregates import mean


def test_a_score_is_looked_up() -> None:
    score = Score(parts=(1.0,), value=1.0)
    metric = LoggedMetric("acc", higher_is_better=True, scores={"a": score}, aggregate=mean)

    def ask(id_: str) -> Score | Unscored:
        example = Example(id=id_, dataset="walls", kind="generation", question=Chat(prompt="?"))
        return asyncio.run(metric.score(example, Answer(text="")))

    assert ask("a") == score
    assert ask("b") == Unscored(reason="it was not scored there")
    assert metric.aggregate(np.array([[1.0], [0.0]]), np.ones((1, 2))).tolist() == [0.5]
