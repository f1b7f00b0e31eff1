from __future__ import annotations

from dataclasses import replace
from typing import Any

from metric_examples import answered, figure_of, metric_of, reason_of, score_of

from genai.evaluation.records import Answer, Example, Score

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def expecting(*calls: dict[str, Any]) -> Example:
    """A row with one tool and the calls that are right."""
    return replace(answered(tools=(TOOL,)), expected_tools=calls)


def calling(*cities: str) -> Answer:
    """An answer that asks for the weather of these."""
    return Answer(
        text="", tool_calls=tuple({"name": "weather", "arguments": f'{{"city": "{city}"}}'} for city in cities)
    )


PARIS = {"name": "weather", "arguments": {"city": "Paris"}}
ROME = {"name": "weather", "arguments": {"city": "Rome"}}


def test_the_figure_is_the_share_of_answers_whose_calls_are_right() -> None:
    metric = metric_of("tool_calls")
    scores = [
        score_of(metric, expecting(PARIS), calling("Paris")),
        score_of(metric, expecting(PARIS, ROME), calling("Rome", "Paris")),
        score_of(metric, expecting(PARIS), calling()),
        score_of(metric, expecting(), calling()),
    ]
    assert figure_of(metric, scores) == 0.75
    assert scores[2] == Score(parts=(0.0,), value=0.0, note="weather was not called (call 1)")


def test_settings() -> None:
    in_order = metric_of("tool_calls", kwargs={"in_order": True}, ignore_case=True)
    right = score_of(in_order, expecting(PARIS, ROME), calling("PARIS", "rome"))
    wrong = score_of(in_order, expecting(PARIS, ROME), calling("rome", "PARIS"))
    assert isinstance(right, Score) and isinstance(wrong, Score)
    assert (right.value, wrong.value) == (1, 0)


def test_rows_that_tell_nothing_are_not_scored() -> None:
    metric = metric_of("tool_calls")
    assert reason_of(metric, answered("a"), "a") == "the row has no tools"
    broken = expecting({"name": "weather", "arguments": "city=Paris"})
    assert reason_of(metric, broken, calling("Paris")).startswith("an expected call cannot be read: weather: the")
