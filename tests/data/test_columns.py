"""Formats are recognised, and a column that is missing comes with the mapping that was probably meant."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from genai.config.checks_finetune import COLUMNS
from genai.config.finetune import RowFormat
from genai.data.columns import REQUIRED, choose_format, suggest_columns
from genai.data.faults import DataConfigError
from genai.data.readers import Record


def records(*rows: dict[str, Any]) -> list[Record]:
    return [Record(values=values, source=f"rows.jsonl:{n}") for n, values in enumerate(rows, 1)]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": []}, "chat"),
        ({"prompt": "", "messages": [], "id": 1}, "chat"),
        ({"prompt": "", "response": ""}, "prompt_response"),
        ({"prompt": "", "completion": ""}, "prompt_response"),
        ({"instruction": "", "output": ""}, "alpaca"),
        ({"instruction": "", "input": "", "output": ""}, "alpaca"),
        ({"conversations": []}, "sharegpt"),
        ({"text": "", "url": ""}, "text"),
    ],
)
def test_formats_are_recognised(row: dict[str, Any], expected: str) -> None:
    assert choose_format(records(row), "auto", {}) == expected


def test_the_majority_of_the_first_rows_decides() -> None:
    rows = records({"text": "a"}, {"prompt": "q", "response": "a"}, {"prompt": "q", "response": "a"})
    assert choose_format(rows, "auto", {}) == "prompt_response"
    assert choose_format(records({"text": None, "prompt": "q", "response": "a"}), "auto", {}) == "prompt_response"


def test_columns_are_renamed() -> None:
    rows = records({"q": "How?", "a": "So.", "text": "How? So."})
    assert choose_format(rows, "prompt_response", {"prompt": "q", "response": "a"}) == "prompt_response"


def fault(rows: list[Record], wanted: RowFormat = "auto", columns: dict[str, str] | None = None) -> DataConfigError:
    with pytest.raises(DataConfigError) as caught:
        choose_format(rows, wanted, columns or {})
    return caught.value


def test_ambiguous_rows() -> None:
    error = fault(records({"instruction": "", "output": "", "text": ""}))
    assert str(error) == (
        "rows.jsonl:1: the rows could be alpaca or text: they have instruction, output, text "
        "(say which: format: alpaca)"
    )
    assert error.key == "dataset.format"


@pytest.mark.parametrize(
    ("keys", "fix"),
    [
        (["id", "category", "q", "a"], "set columns: {prompt: q, response: a}"),
        (["Question", "Answer"], "set columns: {prompt: Question, response: Answer}"),
        (["user_question", "best-answer"], "set columns: {prompt: user_question, response: best-answer}"),
        (["promt", "response"], "set columns: {prompt: promt}"),
        (["instruction", "answer"], "set columns: {prompt: instruction, response: answer}"),
        (["dialogue"], "set columns: {messages: dialogue}"),
        (["body"], "set columns: {text: body}"),
        (["x", "y"], "set columns, e.g. {prompt: YOUR_QUESTIONS, response: YOUR_ANSWERS}"),
    ],
)
def test_unknown_columns_come_with_a_mapping(keys: list[str], fix: str) -> None:
    error = fault(records(dict.fromkeys(keys, "x")))
    assert str(error) == f"rows.jsonl:1: no known format has the columns {', '.join(keys)} ({fix})"
    assert error.key == "dataset.columns"


def test_a_format_that_does_not_fit() -> None:
    error = fault(records({"prompt": "q", "response": "a"}), "chat")
    assert str(error) == (
        "rows.jsonl:1: format chat needs 'messages'; the rows have prompt, response (format: prompt_response fits)"
    )
    error = fault(records({"q": "q", "a": "a"}), "alpaca")
    assert str(error) == (
        "rows.jsonl:1: format alpaca needs 'instruction' and 'output'; the rows have q, a "
        "(set columns: {instruction: q, output: a})"
    )
    assert error.key == "dataset.format"


def test_a_mapping_to_a_column_that_is_not_there() -> None:
    error = fault(records({"question": "q", "answer": "a"}), columns={"prompt": "qestion", "response": "answer"})
    assert str(error) == "rows.jsonl:1: there is no column 'qestion' (did you mean 'question'?)"
    error = fault(records({"q": "q", "a": "a"}), columns={"prompt": "subject"})
    assert str(error) == "rows.jsonl:1: there is no column 'subject' (the columns are: q, a)"


def test_suggestions_never_name_one_column_twice() -> None:
    assert "YOUR_QUESTIONS" in suggest_columns(["question"])


def test_the_formats_are_those_of_the_job_schema() -> None:
    assert {"auto", *REQUIRED} == set(get_args(RowFormat)) == {"auto", *COLUMNS}
    for kind, names in REQUIRED.items():
        assert all(alternatives[0] in COLUMNS[kind] for alternatives in names)
