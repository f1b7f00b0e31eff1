"""Data sets: what is read, what is skipped, what stops the job and what the way out is."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_tables import open_fake

from genai.config.eval import DatasetConfig, FewShotConfig
from genai.data.faults import DataConfigError
from genai.evaluation.datasets import LoadedDataset, load_dataset
from genai.evaluation.records import Chat, WholeText

ROWS = [{"id": f"r{number}", "prompt": f"Question {number}?", "reference": f"A{number}."} for number in range(20)]
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write rows, or a text, into an empty working directory; its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(rows: Sequence[Any] | str, name: str = "faq.jsonl") -> str:
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        Path(name).write_text(text)
        return name

    return write_file


def load(path: str, *, seed: int = 17, **settings: Any) -> LoadedDataset:
    return load_dataset(DatasetConfig(name="faq", path=path, **settings), seed=seed, open_table=open_fake)


def fault(path: str, **settings: Any) -> DataConfigError:
    with pytest.raises(DataConfigError) as refused:
        load(path, **settings)
    return refused.value


def ids(dataset: LoadedDataset) -> list[str]:
    return [example.id for example in dataset.examples]


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_file(write: Write) -> None:
    path = write(ROWS)
    dataset = load(path)
    assert ids(dataset) == [row["id"] for row in ROWS]
    assert dataset.examples[3].question == Chat(prompt="Question 3?")
    assert dataset.examples[3].references == ("A3.",)
    assert dataset.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert (dataset.name, dataset.num_rows, dataset.skipped, dataset.synthetic) == ("faq", 20, (), False)


def test_every_kind_of_file_gives_the_same_examples(write: Write) -> None:
    wanted = load(write(ROWS)).examples
    with open("faq.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["id", "prompt", "reference"])
        table.writeheader()
        table.writerows(ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), "faq.parquet")
    Path("faq.jsonl.gz").write_bytes(gzip.compress(Path("faq.jsonl").read_bytes()))
    for name in ("faq.csv", "faq.parquet", "faq.jsonl.gz"):
        assert load(name).examples == wanted


def test_tables_have_the_hash_of_their_rows() -> None:
    dataset = load("delta:notes@3", kind="text")
    assert dataset.num_rows == 2
    assert dataset.examples[0].question == WholeText(text="row 0 of notes")
    assert dataset.sha256 == load("delta:notes@4", kind="text").sha256, "the same rows at another version"
    assert dataset.sha256 != load("delta:other", kind="text").sha256


def test_several_files_are_one_data_set(write: Write) -> None:
    first, second = write(ROWS[:5], "part-1.jsonl"), write(ROWS[5:], "part-2.jsonl")
    both = load("part-*.jsonl")
    assert len(both.examples) == 20
    assert both.sha256 not in (load(first).sha256, load(second).sha256)


def test_a_limit_takes_the_same_rows_in_any_order_and_more_beside_them(write: Write) -> None:
    few = ids(load(write(ROWS), limit=5))
    assert len(few) == 5
    assert few == sorted(few, key=lambda id_: int(id_[1:])), "in the order of the file"
    assert set(few) == set(ids(load(write(ROWS[::-1]), limit=5)))
    assert set(few) < set(ids(load(write(ROWS), limit=9)))
    assert set(few) != set(ids(load(write(ROWS), limit=5, seed=18)))
    assert load(write(ROWS), limit=5).num_rows == 20
    assert len(load(write(ROWS), limit=500).examples) == 20


def test_rows_that_say_the_same_without_ids_are_all_asked(write: Write) -> None:
    same = {"prompt": "Why?", "reference": "So."}
    found = ids(load(write([same, same, {"prompt": "How?"}, same])))
    assert len(set(found)) == 4
    assert found[1:] == [f"{found[0]}-2", found[2], f"{found[0]}-3"]


def test_made_questions_mark_the_data_set(write: Write) -> None:
    dataset = load(write([{**ROWS[0], "synthetic": True}, ROWS[1]]))
    assert [each.synthetic for each in dataset.examples] == [True, False]
    assert dataset.synthetic


# --- what is skipped --------------------------------------------------------------------------------------------------


def test_incomplete_rows_are_skipped_counted_and_told(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    text = json.dumps(ROWS[0]) + "\nno JSON\n" + json.dumps({"id": "x", "prompt": ""}) + "\n"
    with caplog.at_level(logging.WARNING):
        dataset = load(write(text))
    assert ids(dataset) == ["r0"]
    assert dataset.num_rows == 3
    assert [row.source for row in dataset.skipped] == ["faq.jsonl:2", "faq.jsonl:3"]
    assert "2 of 3 rows are skipped; the first: faq.jsonl:2: is no JSON" in caplog.text


def test_no_row_is_left(write: Write) -> None:
    error = fault(write([{"prompt": ""}, {"prompt": 5}, {"prompt": ""}]))
    assert [problem.message for problem in error.problems] == [
        "there is no row that can be used",
        "'prompt' is empty",
        "'prompt' is a number, not a text",
    ]


# --- what stops the job -----------------------------------------------------------------------------------------------


def test_an_empty_file(write: Write) -> None:
    assert fault(write("")).message == "the file is empty"
    assert fault(write([], "x.csv")).key == "dataset.path"
    assert fault("gone.jsonl").message.startswith("no such file")


def test_ids_that_stand_twice_are_all_named(write: Write) -> None:
    error = fault(write([ROWS[0], ROWS[1], ROWS[0], ROWS[1]]))
    assert [(each.where, each.message) for each in error.problems] == [
        ("faq.jsonl:3", "the id 'r0' stands at faq.jsonl:1 already"),
        ("faq.jsonl:4", "the id 'r1' stands at faq.jsonl:2 already"),
    ]
    assert error.fix == "every row needs an id of its own"


def test_of_many_faults_some_are_shown(write: Write) -> None:
    error = fault(write([ROWS[0]] * 40))
    assert len(error.problems) == 21
    assert error.problems[-1].message == "and 19 more"


def test_a_right_choice_that_is_none(write: Write) -> None:
    rows = [{"query": "a", "choices": ["x", "y"], "gold": gold} for gold in (1, 2)]
    error = fault(write(rows), kind="multiple_choice")
    assert (error.where, error.message) == ("faq.jsonl:2", "'gold' is 2, but 'choices' are numbered 0 to 1")


def test_a_golden_set_that_was_changed(write: Write) -> None:
    path = write(ROWS)
    wanted = load(path).sha256
    assert load(path, sha256=wanted).sha256 == wanted
    write(ROWS[:19])
    error = fault(path, sha256=wanted)
    assert error.key == "dataset.sha256"
    assert wanted in error.message


@pytest.mark.parametrize(
    ("settings", "key", "message", "fix"),
    [
        (
            {},
            "dataset.columns",
            "kind generation needs 'prompt' or 'messages'; the rows have q, a, topic",
            "set columns: {prompt: q, reference: a}",
        ),
        ({"columns": {"prompt": "qq"}}, "dataset.columns", "there is no column 'qq'", "did you mean 'q'?"),
        ({"prompt": "{topics}"}, "dataset.prompt", "the prompt names the column 'topics'", "did you mean '{topic}'?"),
        ({"prompt": "{q"}, "dataset.prompt", "the prompt opens a brace around no column", "write {{ and }}"),
        ({"prompt": "{q}", "slices": ["topi"]}, "dataset.slices", "there is no column 'topi'", "did you mean 'topic'?"),
        ({"prompt": "{q}", "cluster": "page"}, "dataset.cluster", "there is no column 'page'", "the columns are: q, a"),
        (
            {"kind": "multiple_choice"},
            "dataset.columns",
            "kind multiple_choice needs 'query' and 'choices' and 'gold'",
            "set columns, e.g. {query: q}",
        ),
    ],
)
def test_columns_that_do_not_exist(write: Write, settings: dict[str, Any], key: str, message: str, fix: str) -> None:
    error = fault(write([{"q": "Why?", "a": "So.", "topic": "floors"}]), **settings)
    assert error.key == key
    assert error.message.startswith(message)
    assert error.fix is not None
    assert error.fix.startswith(fix)


def test_answers_without_a_right_one_are_told(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(write([{"prompt": "Why?", "answer": "So."}]))
    assert "no answer is compared with a right one (set columns: {reference: answer})" in caplog.text


# --- solved examples --------------------------------------------------------------------------------------------------


def test_solved_examples_come_from_all_rows_or_from_a_file_of_their_own(write: Write) -> None:
    path = write(ROWS)
    example = load(path, limit=1, few_shot=FewShotConfig(num=2)).examples[0]
    assert isinstance(example.question, Chat)
    assert example.question.prompt is not None
    assert example.question.prompt.count("\n\n") == 2
    write([{"id": "s", "prompt": "Shot?", "reference": "Bang."}], "shots.jsonl")
    for shown in load(path, few_shot=FewShotConfig(num=1, path="shots.jsonl")).examples:
        assert isinstance(shown.question, Chat)
        assert (shown.question.prompt or "").startswith("Shot? Bang.\n\nQuestion")


def test_too_few_solved_examples(write: Write) -> None:
    path = write(ROWS[:3])
    assert fault(path, few_shot=FewShotConfig(num=3)).key == "dataset.few_shot"
    assert fault(path, few_shot=FewShotConfig(num=3, path="gone.jsonl")).key == "dataset.few_shot.path"
