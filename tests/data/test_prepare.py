"""From the job file to checked rows, the way a job does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genai.config.finetune import DataChecksConfig, DataConfig, FinetuningDatasetConfig, SplitConfig
from genai.data import gallery
from genai.data.faults import DataConfigError
from genai.data.labels import LabelSettings
from genai.data.prepare import PreparedRows, first_rows, load_rows, prepare_rows
from genai.data.rows import Row
from genai.data.tokenized import tokenize
from genai.errors import GateError

FAQ = {"prompt": "q", "response": "a"}


def prepare(
    train: FinetuningDatasetConfig, evaluation: FinetuningDatasetConfig | None, data: DataConfig
) -> PreparedRows:
    """Read, split and check, as a job does."""
    held_out = None if evaluation is None else first_rows(load_rows(evaluation, DataConfig()), evaluation.max_rows)
    return prepare_rows(load_rows(train, data), held_out, data, max_rows=train.max_rows)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def write_rows(name: str, rows: list[Any]) -> str:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
        return name

    return write_rows


def dataset(path: str | list[str], **changes: Any) -> FinetuningDatasetConfig:
    return FinetuningDatasetConfig(path=path, **changes)


def questions(number: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {n * 7919:x}?", "response": "So.", "topic": f"t{n % 7}"} for n in range(number)]


def test_rows_are_read_split_and_counted(write: Any) -> None:
    path = write("rows.jsonl", questions(200))
    prepared = prepare(dataset(path, max_rows=150), None, DataConfig(split=SplitConfig(validation=0.2)))
    assert prepared.evaluation is not None
    assert (len(prepared.train), len(prepared.evaluation)) == (150, 35)
    assert prepared.summary.train.num_rows == 150
    assert prepared.summary.overlap is not None
    assert prepared.summary.overlap.leaked == ()


def test_an_evaluation_set_of_its_own(write: Any) -> None:
    train, evaluation = write("a.jsonl", questions(20)), write("b.jsonl", [{"text": "One"}, {"text": "Two"}])
    prepared = prepare(dataset(train), dataset(evaluation, max_rows=1), DataConfig())
    assert prepared.evaluation is not None
    assert [row.text for row in prepared.evaluation.rows] == ["One"]
    assert prepare(dataset(train), None, DataConfig()).evaluation is None


def test_rows_of_several_files_keep_their_places(write: Any) -> None:
    paths = [write("a.jsonl", questions(2)), write("b.jsonl", questions(3))]
    rows = load_rows(dataset(paths), DataConfig())
    assert [row.source for row in rows.rows] == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "b.jsonl:2", "b.jsonl:3"]


def test_groups_of_a_column(write: Any) -> None:
    path = write("rows.jsonl", questions(100))
    prepared = prepare(dataset(path), None, DataConfig(split=SplitConfig(validation=0.4, group_by="topic")))
    assert prepared.evaluation is not None
    sides = {row.group for row in prepared.train.rows}, {row.group for row in prepared.evaluation.rows}
    assert all(sides) and not sides[0] & sides[1]


def test_an_unknown_group_column(write: Any) -> None:
    path = write("rows.jsonl", questions(10))
    for name, fix in (("topik", "did you mean 'topic'?"), ("near_duplicate", "did you mean 'near_duplicates'?")):
        with pytest.raises(DataConfigError) as caught:
            prepare(dataset(path), None, DataConfig(split=SplitConfig(group_by=name)))
        assert str(caught.value) == f"rows.jsonl:1: there is no column '{name}' ({fix})"
        assert caught.value.key == "data.split.group_by"


def test_bad_rows_stop_the_job_unless_they_are_allowed(write: Any) -> None:
    path = write("rows.jsonl", [*questions(8), "{", {"prompt": "x", "response": ""}])
    with pytest.raises(GateError) as caught:
        prepare(dataset(path), None, DataConfig())
    first, *samples = str(caught.value).splitlines()
    assert first == "data.checks.max_bad_rows: 2 of 10 rows cannot be used (20.0%, allowed 0.0%)"
    assert [line.partition(" ")[0] for line in samples] == ["rows.jsonl:9:", "rows.jsonl:10:"]
    prepared = prepare(dataset(path), None, DataConfig(checks=DataChecksConfig(max_bad_rows=0.2)))
    assert (len(prepared.train), prepared.summary.train.num_bad) == (8, 2)


def test_a_file_that_begins_with_bad_lines(write: Any) -> None:
    path = write("rows.jsonl", ["no json"] * 30 + questions(2))
    rows = load_rows(dataset(path), DataConfig())
    assert (len(rows), len(rows.bad)) == (2, 30)
    rows = load_rows(dataset(write("b.jsonl", ["no json"] * 3)), DataConfig())
    assert (len(rows), len(rows.bad)) == (0, 3)
    with pytest.raises(GateError, match="3 of 3 rows cannot be used"):
        prepare(dataset("b.jsonl"), None, DataConfig(split=SplitConfig()))


def test_leaked_rows_stop_the_job(write: Any) -> None:
    paths = write("a.jsonl", questions(10)), write("b.jsonl", questions(2))
    with pytest.raises(GateError, match=r"2 of 2 evaluation rows also stand .*e\.g\. b\.jsonl:1, b\.jsonl:2"):
        prepare(dataset(paths[0]), dataset(paths[1]), DataConfig())


def test_neither_torch_nor_transformers_is_imported(write: Any) -> None:
    write("rows.jsonl", questions(50))
    code = (
        "import sys\n"
        "from genai.config.finetune import DataConfig, FinetuningDatasetConfig, SplitConfig\n"
        "from genai.data.prepare import load_rows, prepare_rows\n"
        "cfg = DataConfig(split=SplitConfig(group_by='near_duplicates'))\n"
        "prepare_rows(load_rows(FinetuningDatasetConfig(path='rows.jsonl'), cfg), None, cfg)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'boto3', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def faq() -> FinetuningDatasetConfig:
    gallery.pull("construction-faq-en")
    return FinetuningDatasetConfig(path="gallery:construction-faq-en", columns=FAQ)


@pytest.mark.integration
def test_the_construction_faq(faq: FinetuningDatasetConfig, make_tokenizer: Any) -> None:
    """The numbers of the quickstart: about 100 of 503 rows held back, questions asked twice on one side."""
    split = SplitConfig(validation=100, group_by="near_duplicates")
    prepared = prepare(faq, None, DataConfig(split=split))
    assert prepared.evaluation is not None and prepared.summary.overlap is not None
    assert (len(prepared.train), len(prepared.evaluation)) == (407, 96)
    assert prepared.summary.overlap.near == ()
    assert prepared.train.rows[0].source.startswith("gallery:construction-faq-en:")

    apart = prepare(faq, None, DataConfig(split=SplitConfig(validation=100)))
    assert apart.summary.overlap is not None
    assert len(apart.summary.overlap.near or ()) > 3

    tokenizer = make_tokenizer("chatml")
    tokenized = tokenize(prepared.train.rows, tokenizer, LabelSettings(max_seq_len=4096))
    for index, row in enumerate(prepared.train.rows):
        ids, trained = tokenized.example(index)
        assert tokenizer.decode(ids[trained].tolist()) == row.messages[-1].content + "<|im_end|>"


@pytest.mark.integration
def test_the_faq_without_a_mapping_is_told_its_mapping(faq: FinetuningDatasetConfig) -> None:
    with pytest.raises(DataConfigError) as caught:
        load_rows(FinetuningDatasetConfig(path=faq.path), DataConfig())
    assert caught.value.fix == "set columns: {prompt: q, response: a}"


def test_plain_rows(write: Any) -> None:
    (row,) = load_rows(dataset(write("a.csv", ["text", "Once"])), DataConfig()).rows
    assert row == Row(text="Once", source="a.csv:2")
