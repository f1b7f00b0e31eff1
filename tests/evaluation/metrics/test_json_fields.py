from __future__ import annotations

import pytest
from metric_examples import answered, figure_of, metric_of, reason_of, score_of, value_of

from genai.evaluation.records import Score

ADA = '{"name": "Ada", "age": 36, "address": {"city": "London", "zip": null}}'


def test_the_share_of_right_fields_and_those_that_are_wrong() -> None:
    score = score_of(metric_of("json_fields"), answered(ADA), '{"age": 36.0, "name": "Bob", "more": true}')
    assert isinstance(score, Score)
    assert score.value == pytest.approx(1 / 3)
    assert score.note == "wrong: name, address"
    assert score.details["fields"] == {"name": False, "age": True, "address": False}


def test_named_fields_alone_and_without_case() -> None:
    metric = metric_of("json_fields", fields=["name", "address.city"], ignore_case=True)
    assert value_of(metric, answered(ADA), '{"name": "ada", "address": {"city": "LONDON"}}') == 1


def test_the_best_of_several_references_counts() -> None:
    assert value_of(metric_of("json_fields"), answered('{"a": 1}', '{"a": 2}'), '{"a": 2}') == 1


@pytest.mark.parametrize(("text", "note"), [("Ada, 36", "no JSON: "), ("[36]", "it is JSON, but no object")])
def test_an_answer_that_is_no_object_is_wrong(text: str, note: str) -> None:
    score = score_of(metric_of("json_fields"), answered('{"a": 1}'), text)
    assert isinstance(score, Score)
    assert score.value == 0
    assert score.note.startswith(note)


def test_the_figure_is_the_mean_of_the_shares() -> None:
    metric = metric_of("json_fields", kwargs={"fenced": True})
    scores = [
        score_of(metric, answered('{"a": 1, "b": 2}'), '```json\n{"a": 1}\n```'),
        score_of(metric, answered('{"a": 1}'), '{"a": 1}'),
    ]
    assert figure_of(metric, scores) == 0.75


def test_a_row_whose_reference_tells_nothing_is_not_scored() -> None:
    metric = metric_of("json_fields")
    assert reason_of(metric, answered(), "{}") == "the row has no reference"
    assert reason_of(metric, answered("{}"), "{}") == "the reference has no field"
    assert reason_of(metric, answered("[1]"), "{}").startswith("the reference is no JSON object: it is JSON of another")
    assert reason_of(metric, answered("Ada"), "{}").startswith("the reference is no JSON object: Expecting value")
