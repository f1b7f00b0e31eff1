from __future__ import annotations

import pytest
from metric_examples import answered, figure_of, metric_of, reason_of, score_of, value_of

from genai.evaluation import patterns
from genai.evaluation.records import Failure


def test_an_answer_must_be_a_reference() -> None:
    metric = metric_of("exact_match")
    assert value_of(metric, answered("Paris", "Paris, France"), " Paris,\nFrance ") == 1
    assert value_of(metric, answered("Paris"), "paris") == 0
    assert value_of(metric, answered("Paris"), "Paris.") == 0


def test_differences_can_be_passed_over() -> None:
    metric = metric_of("exact_match", ignore_case=True, ignore_punctuation=True)
    assert value_of(metric, answered("the Louvre"), "Louvre!") == 1


def test_a_pattern_finds_the_answer_proper() -> None:
    metric = metric_of("exact_match", pattern=r"####\s*(\S+)|answer is (\S+)")
    assert value_of(metric, answered("42"), "6 times 7 is 42.\n#### 42") == 1
    assert value_of(metric, answered("42"), "the answer is 42") == 1
    assert value_of(metric, answered("42"), "42") == 0  # what the pattern does not find is no answer


def test_a_pattern_that_goes_astray_leaves_the_example_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "TIME_LIMIT_S", 0.05)
    metric = metric_of("exact_match", pattern=r"(?:a|aa)+$")
    assert reason_of(metric, answered("a"), "a" * 60 + "b") == "the pattern was not done with the answer within 1 s"
    assert value_of(metric, answered("aa"), "aa") == 1


def test_the_figure_is_the_share_that_is_right() -> None:
    metric = metric_of("exact_match")
    scores = [score_of(metric, answered("a"), answer) for answer in ("a", "b", "a", "c")]
    assert figure_of(metric, scores) == 0.5
    assert figure_of(metric, scores, [3, 1, 0, 0]) == 0.75


def test_what_is_no_answer_and_a_row_without_a_reference_are_not_scored() -> None:
    metric = metric_of("exact_match")
    assert "this is a failure: HTTP 500" in reason_of(metric, answered("a"), Failure(reason="HTTP 500"))
    assert reason_of(metric, answered(), "a") == "the row has no reference"
