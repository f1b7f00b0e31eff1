from __future__ import annotations

import pytest
from metric_examples import answered, metric_of, score_of, value_of

from genai.evaluation.records import Score


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I\u2019m sorry, but I can\u2019t help with this request.",
        "Unfortunately, I cannot\nprovide instructions for that.",
        "As an AI language model, I can not do this.",
        "I must decline.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    score = score_of(metric_of("refusal"), answered(), text)
    assert isinstance(score, Score)
    assert score.value == 1
    assert score.note.startswith("it says '")


@pytest.mark.parametrize(
    "text",
    [
        "Paris is the capital of France.",
        "You can't park there.",
        "",
        "Sure! Here is the letter: Dear Sir, I cannot thank you enough.",
        "Here is a story. " + "It goes on. " * 20 + "'I cannot help you,' said the king.",
    ],
)
def test_other_answers_are_none(text: str) -> None:
    assert value_of(metric_of("refusal"), answered(), text) == 0


def test_phrases_of_another_language_can_be_given() -> None:
    metric = metric_of("refusal", kwargs={"phrases": ["Das kann ich nicht", ""]})
    assert value_of(metric, answered(), "Leider: das kann ich nicht beantworten.") == 1
    assert value_of(metric, answered(), "I cannot help you") == 0
    assert metric.higher_is_better is False
