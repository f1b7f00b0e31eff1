"""Tasks of in-context learning as data sets, and what is said of rows that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_tables import FakeTable

from genai.config.eval import IclTaskConfig, IclTaskType
from genai.data.faults import DataConfigError
from genai.errors import DataError
from genai.evaluation.icl.tasks import kind_of, labels_of, load_icl
from genai.evaluation.records import Chat

ROWS: list[dict[str, Any]] = [
    {"context": "A roof keeps out the", "continuation": "rain", "category": "roofs"},
    {"context": "Bricks are joined with", "continuation": "mortar", "category": "walls"},
    {"context": "A gutter needs a", "continuation": "slope", "category": "roofs"},
    {"context": "A wall stands on its", "continuation": "footing", "category": "walls"},
    {"context": "A wall stands on its", "continuation": "footing", "category": "walls"},
]


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(data)


def task(uri: str, kind: IclTaskType = "language_modeling", **values: Any) -> IclTaskConfig:
    return IclTaskConfig(label="task", dataset_uri=uri, icl_task_type=kind, **values)


def test_one_data_set_for_each_number_of_examples(tmp_path: Path) -> None:
    config = task(write(tmp_path, ROWS), num_fewshot=[0, 2])
    found = load_icl(config, 1)
    assert [label for label, _ in found] == ["task/0-shot", "task/2-shot"] == labels_of(config)
    assert {example.dataset for example in found[1][1]} == {"task/2-shot"}
    assert [example.id for example in found[0][1]] == [example.id for example in found[1][1]]
    assert len({example.id for example in found[0][1]}) == len(ROWS)


def test_categories_are_tasks_of_their_own(tmp_path: Path) -> None:
    config = task(write(tmp_path, ROWS), has_categories=True, num_fewshot=[1])
    found = dict(load_icl(config, 1))
    assert {label: len(examples) for label, examples in found.items()} == {
        "task/1-shot/roofs": 2,
        "task/1-shot/walls": 3,
    }
    # With two rows the example is always the other one, of the same category.
    assert [example.question.pairs[0][0] for example in found["task/1-shot/roofs"]] == [  # type: ignore[union-attr]
        "A gutter needs a slope\nA roof keeps out the",
        "A roof keeps out the rain\nA gutter needs a",
    ]


def test_a_limit_takes_the_same_rows_whatever_is_shown_before_them(tmp_path: Path) -> None:
    uri = write(tmp_path, ROWS)
    whole = dict(load_icl(task(uri, num_fewshot=[2]), 1))["task/2-shot"]
    limited = dict(load_icl(task(uri, num_fewshot=[0, 2], limit=2), 1))
    assert [each.id for each in limited["task/0-shot"]] == [each.id for each in limited["task/2-shot"]]
    assert all(each in whole for each in limited["task/2-shot"])
    drawn = {tuple(each.id for each in load_icl(task(uri, limit=2), seed)[0][1]) for seed in range(20)}
    assert len(drawn) > 1


def test_what_is_right_stands_in_the_example(tmp_path: Path) -> None:
    rows = [{"context": "Who?", "answer": " the mason ", "aliases": ["a mason", "the mason"]}]
    config = task(write(tmp_path, rows), "question_answering", max_new_tokens=7, early_stopping_criteria=["\n"])
    ((_, (example,)),) = load_icl(config, 1)
    assert kind_of(config) == example.kind == "generation"
    assert example.references == ("the mason", "a mason")
    assert example.question == Chat(prompt="Who?", max_tokens=7, stop=("\n",))


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("language_modeling", {"contxt": "a", "continuation": "b"}, "column 'context' is missing"),
        ("language_modeling", {"context": 3, "continuation": "b"}, "'context' must be a text, not int"),
        ("multiple_choice", {"query": "a", "choices": ["b"], "gold": 0}, "at least two texts"),
        ("multiple_choice", {"query": "a", "choices": "bc", "gold": 0}, "must be a list of texts"),
        ("multiple_choice", {"query": "a", "choices": ["b", "c"], "gold": 2}, "a number from 0 to 1, not 2"),
        ("schema", {"context_options": ["a", "b"], "gold": True, "continuation": "c"}, "a number from 0 to 1"),
        ("generation_task_with_answers", {"context": "a", "answer": "b", "aliases": "c"}, "'aliases' must be a list"),
    ],
)
def test_a_row_that_cannot_be_used(kind: IclTaskType, row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_icl(task(write(tmp_path, [row]), kind), 1)
    assert caught.value.where is not None
    assert "rows.jsonl:1" in caught.value.where


def test_a_misspelt_column_has_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_icl(task(write(tmp_path, [{"contxt": "a", "continuation": "b"}])), 1)
    assert caught.value.fix == "did you mean 'contxt'?"


def test_a_row_that_is_no_json(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"context": "a", "continuation": "b"}\n{"context": \n')
    with pytest.raises(DataError, match="cannot be read"):
        load_icl(task(str(data)), 1)


def test_no_file_and_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DataConfigError, match="no such file"):
        load_icl(task(str(tmp_path / "rows.jsonl")), 1)
    with pytest.raises(DataConfigError, match="the file is empty"):
        load_icl(task(write(tmp_path, [])), 1)
    nothing = FakeTable(uri="rows", version=1, file_bytes=())
    with pytest.raises(DataError, match="has no rows"):
        load_icl(task("delta:rows"), 1, open_table=lambda uri, version: nothing)
