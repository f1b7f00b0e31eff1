"""The rows of a fine-tuning run: both sides of its split, as the run itself read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_tables import FakeTable, open_fake

from genai.config.eval import DatasetConfig
from genai.config.finetune import FinetuneConfig
from genai.config.loading import load
from genai.data.prepare import load_rows, prepare_rows
from genai.errors import DataError, GenaiError, UsageError
from genai.evaluation.datasets import load_dataset
from genai.evaluation.records import Chat
from genai.evaluation.run_rows import read_run_rows
from genai.tracking.run import RunDirectory

JOB = """\
model: {pretrained_model_name_or_path: gallery:tiny}
train_loader:
  dataset: {path: faq.jsonl, columns: {prompt: q, response: a}, max_rows: 60}
data:
  split: {validation: 0.2}
max_duration: 1ep
"""
ROWS = [{"q": f"Question {number}?", "a": f"Answer {number}.", "topic": f"t{number % 3}"} for number in range(100)]
Begin = Callable[..., RunDirectory]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Leave behind what a fine-tuning run leaves, without the training: its job file and the hash of its rows."""
    monkeypatch.chdir(tmp_path)
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def begin_run(job: str = JOB, name: str = "faq-1") -> RunDirectory:
        Path("job.yaml").write_text(job)
        loaded = load("job.yaml", FinetuneConfig)
        config = loaded.config
        train = load_rows(config.train_loader.dataset, config.data)
        evaluation = None if config.eval_loader is None else load_rows(config.eval_loader.dataset, config.data)
        prepared = prepare_rows(train, evaluation, config.data, max_rows=config.train_loader.dataset.max_rows)
        directory = RunDirectory.open("runs", name)
        directory.write_config(loaded.dump())
        directory.write_result({"rows": prepared.fingerprint})
        return directory

    return begin_run


def open_long(uri: str, version: int | None) -> FakeTable:
    return replace(open_fake(uri, version), file_bytes=(60,) * 50)


def test_both_sides_are_those_of_the_run(begin: Begin) -> None:
    begin()
    rows = read_run_rows("runs:faq-1", runs_dir="runs", open_table=None)
    assert len(rows.train) == 60
    assert 10 <= len(rows.held_out) <= 30
    assert not {row.key for row in rows.train} & {row.key for row in rows.held_out}


def test_held_out_rows_are_a_data_set_with_all_their_columns(begin: Begin) -> None:
    begin()
    config = DatasetConfig(
        name="faq", path="runs:faq-1", columns={"prompt": "q", "reference": "a"}, slices=["topic"], sha256=None
    )
    dataset = load_dataset(config, seed=17, runs_dir="runs")
    held_out = read_run_rows("runs:faq-1", runs_dir="runs", open_table=None).held_out
    prompts = [each.question.prompt for each in dataset.examples if isinstance(each.question, Chat)]
    assert prompts == [row.messages[0].content for row in held_out]
    assert {each.slices["topic"] for each in dataset.examples} == {"t0", "t1", "t2"}
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert load_dataset(config, seed=17, runs_dir="runs").sha256 == dataset.sha256


def test_evaluation_rows_of_their_own(begin: Begin) -> None:
    Path("held.jsonl").write_text(json.dumps({"q": "Held?", "a": "Out.", "topic": "t9"}) + "\n")
    job = JOB.replace("data:\n  split: {validation: 0.2}\n", "").replace(", max_rows: 60", "")
    begin(job + "eval_loader:\n  dataset: {path: held.jsonl, columns: {prompt: q, response: a}}\n")
    rows = read_run_rows("runs:faq-1", runs_dir="runs", open_table=None)
    assert len(rows.train) == 100
    assert [record.values["topic"] for record in rows.held_out_records(open_table=None)] == ["t9"]


def test_data_that_are_others_now(begin: Begin) -> None:
    begin()
    changed = [*ROWS, {"q": "One more?", "a": "Yes.", "topic": "t0"}]
    Path("faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*changed[:5], *changed[6:]]))
    with pytest.raises(DataError, match="no longer what the run read"):
        read_run_rows("runs:faq-1", runs_dir="runs", open_table=None)


def test_a_table_is_read_at_the_version_of_the_run(begin: Begin) -> None:
    directory = begin()
    job = JOB.replace("path: faq.jsonl", "path: 'delta:notes', format: text").replace(
        ", columns: {prompt: q, response: a}", ""
    )
    Path("job.yaml").write_text(job)
    directory.write_config(load("job.yaml", FinetuneConfig).dump())
    directory.write_inputs({"tables": {"delta:notes": {"version": 5, "table_id": "x"}}})
    (directory.path / "result.json").unlink()
    rows = read_run_rows("runs:faq-1", runs_dir="runs", open_table=open_long)
    assert rows.train[0].source.startswith("delta:notes@5")
    assert {record.source for record in rows.held_out_records(open_table=open_long)} == {
        row.source for row in rows.held_out
    }


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("runs:faq-2", "there is no run 'faq-2' in runs"),
        ("runs:../faq-1", "run name"),
        ("runs:empty", "the run has no config.yaml"),
        ("runs:index", "the run is one of genai index"),
        ("runs:all", "the run held no rows back"),
    ],
)
def test_runs_without_such_rows(begin: Begin, reference: str, message: str) -> None:
    begin()
    begin(JOB.replace("data:\n  split: {validation: 0.2}\n", ""), "all")
    RunDirectory.open("runs", "empty")
    RunDirectory.open("runs", "index").write_config("name: faq\nsource: {documents: docs}\nembedding: {model: m}\n")
    with pytest.raises(GenaiError, match=message) as refused:
        read_run_rows(reference, runs_dir="runs", open_table=None).held_out_records(open_table=None)
    assert isinstance(refused.value, UsageError)
    assert refused.value.fix


def test_the_fingerprint_is_that_of_the_job(begin: Begin) -> None:
    directory = begin()
    rows = read_run_rows("runs:faq-1", runs_dir="runs", open_table=None)
    keys = "".join(row.key for row in (*rows.train, *rows.held_out))
    assert directory.read_result() == {"rows": hashlib.sha256(keys.encode()).hexdigest()}
