from __future__ import annotations

import pytest
from metric_examples import answered, figure_of, metric_of, score_of, value_of
from sklearn.metrics import accuracy_score

TRUE = ["good", "bad", "mixed", "good", "bad"]
SAID = ["Good.", "good", "**mixed**", "I would say good", "bad"]


def test_the_share_of_right_labels_is_that_of_scikit_learn() -> None:
    metric = metric_of("accuracy", "classification")
    scores = [score_of(metric, answered(label), text) for label, text in zip(TRUE, SAID, strict=True)]
    expected = accuracy_score(TRUE, ["good", "good", "mixed", "none", "bad"])
    assert figure_of(metric, scores) == pytest.approx(expected, abs=1e-9)


def test_case_can_count_and_a_pattern_finds_the_label() -> None:
    assert value_of(metric_of("accuracy", "classification", ignore_case=False), answered("US"), "us") == 0
    assert value_of(metric_of("accuracy", "classification", pattern=r"Answer: (\w)"), answered("B"), "Answer: B)") == 1
