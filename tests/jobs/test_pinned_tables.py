"""Rows from Delta tables: the version that a run began with is the one that it goes on with."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded, load
from genai.errors import ConfigError, GateError
from genai.jobs.finetune_inputs import pin, read_inputs
from genai.jobs.pinned_tables import TABLES, pinned
from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory

deltalake = pytest.importorskip("deltalake")
pa = pytest.importorskip("pyarrow")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model's config and a table of ten rows, which is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    append(range(10))
    return tmp_path


def append(numbers: Any, table: str = "faq") -> None:
    columns = {"prompt": [f"question {n}" for n in numbers], "response": [f"answer {n}" for n in numbers]}
    deltalake.write_deltalake(table, pa.table(columns), mode="append")


def load_job(*overrides: str) -> Loaded[FinetuneConfig]:
    text = "run_name: r\nmodel: {pretrained_model_name_or_path: model}\ntrain_loader: {dataset: {path: 'delta:faq'}}\n"
    Path("job.yaml").write_text(text)
    return load("job.yaml", FinetuneConfig, overrides)


def test_the_newest_version_is_pinned(place: Path) -> None:
    append([10])
    pins = pin(load_job())
    assert pins["delta:faq"]["version"] == 1
    append([11])
    inputs = read_inputs(load_job(), tables=pins)
    assert len(inputs.train) == 11
    assert inputs.tables == pins
    assert inputs.train.rows[0].source.startswith("delta:faq@1[")
    assert len(read_inputs(load_job()).train) == 12
    assert read_inputs(load_job()).tables["delta:faq"]["version"] == 2


def test_references_with_and_without_a_version(place: Path) -> None:
    append([10])
    Path("more.jsonl").write_text('{"prompt": "q", "response": "a"}\n')
    loaded = load_job(
        "train_loader.dataset.path=['delta:faq@0', more.jsonl, 'delta:faq']", "eval_loader.dataset.path=delta:faq@1"
    )
    pins = pin(loaded)
    assert {name: pin["version"] for name, pin in pins.items()} == {"delta:faq@0": 0, "delta:faq": 1, "delta:faq@1": 1}
    assert pinned(loaded.config.train_loader.dataset.path, pins) == ["delta:faq@0", "more.jsonl", "delta:faq@1"]
    with pytest.raises(GateError, match=r"11 of 11 evaluation rows also stand in the training rows.*delta:faq@1\[1\]"):
        read_inputs(loaded, tables=pins)


def test_a_run_reads_what_it_began_with(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = pin(load_job())
    RunDirectory.open("runs", "r").write_inputs({TABLES: first})
    append([10])
    with caplog.at_level(logging.INFO, "genai"):
        assert pin(load_job()) == first
    assert "delta:faq is read at version 0, which run 'r' began with; there is version 1 now" in caplog.text
    assert pin(load_job(), run_name="other")["delta:faq"]["version"] == 1
    shutil.rmtree("faq")
    append([1])
    with pytest.raises(ConfigError, match=r"job\.yaml:3.*delta:faq is another table than the one that the run began"):
        pin(load_job())


def test_no_tables_no_look(place: Path) -> None:
    Path("rows.jsonl").write_text('{"prompt": "q", "response": "a"}\n')
    assert pin(load_job("train_loader.dataset.path=rows.jsonl")) == {}
    assert pin(load_job("train_loader.dataset={hf_name: org/name}")) == {}


def test_a_table_that_is_not_there_is_told_with_all_other_faults(place: Path) -> None:
    loaded = load_job("train_loader.dataset.path=delta:nothing", "model.pretrained_model_name_or_path=absent")
    assert pin(loaded) == {}
    with pytest.raises(ConfigError) as caught:
        read_inputs(loaded)
    told = str(caught.value)
    assert len(caught.value.problems) == 2
    assert "absent" in told
    assert "override 'train_loader.dataset.path=delta:nothing'" in told
    assert "there is no Delta table" in told


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_its_version_although_rows_came(job: Any, uninterrupted: Any) -> None:
    rows = [json.loads(line) for line in (job.folder / "rows.jsonl").read_text().splitlines()]
    table = str(job.folder / "rows")
    deltalake.write_deltalake(table, pa.Table.from_pylist(rows))
    dataset = {"path": f"delta:{table}", "packing_ratio": "auto"}
    config = job.write_resumable(save_interval="100ba", train_loader={"dataset": dataset})
    with job.start("finetune", str(config)) as process:
        deadline = time.monotonic() + 120
        while len(read_metrics(job.run_directory / "metrics.jsonl")) < 5:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    deltalake.write_deltalake(table, pa.Table.from_pylist(rows[:3]), mode="append")
    said = job.finish(config)
    assert "is read at version 0" in said
    assert job.outcome() == uninterrupted()  # of the same rows in a file
    recorded = RunDirectory(job.run_directory).read_inputs() or {}
    assert recorded[TABLES][f"delta:{table}"]["version"] == 0


@pytest.mark.slow
def test_many_ranks_read_the_version_that_the_first_one_chose(job: Any) -> None:
    rows = [json.loads(line) for line in (job.folder / "rows.jsonl").read_text().splitlines()]
    table = str(job.folder / "rows")
    deltalake.write_deltalake(table, pa.Table.from_pylist(rows))
    config = job.write(train_loader={"dataset": {"path": f"delta:{table}"}}, max_duration="4ba")
    ended = job.genai("finetune", str(config), "--nproc", "2")
    assert ended.returncode == 0, ended.stderr
    recorded = RunDirectory(job.run_directory).read_inputs() or {}
    assert recorded[TABLES][f"delta:{table}"]["version"] == 0
    assert recorded["train"]["rows"] > 40
