"""What is read and refused before anything heavy is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genai.config.finetune import FinetuneConfig
from genai.config.loading import load
from genai.data.prepare import PreparedRows
from genai.errors import ConfigError, GateError, UsageError
from genai.jobs.finetune_inputs import read_inputs
from genai.jobs.training_inputs import warm_start_weights


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model's config and ten rows, which is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    write_rows(tmp_path / "rows.jsonl", range(10))
    return tmp_path


def write_rows(path: Path, numbers: Any) -> None:
    rows = [{"prompt": f"question {number}", "response": f"answer {number}"} for number in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(*overrides: str) -> PreparedRows:
    text = "model: {pretrained_model_name_or_path: model}\ntrain_loader: {dataset: {path: rows.jsonl}}\n"
    Path("job.yaml").write_text(text)
    return read_inputs(load("job.yaml", FinetuneConfig, overrides))


def test_rows_are_split_and_cut(place: Path) -> None:
    inputs = read("data.split.validation=3", "train_loader.dataset.max_rows=5")
    assert inputs.evaluation is not None
    assert len(inputs.train) == 5
    assert 1 <= len(inputs.evaluation) <= 5
    keys = {row.key for row in inputs.train.rows}
    assert not keys & {row.key for row in inputs.evaluation.rows}


def test_evaluation_rows_of_their_own(place: Path) -> None:
    write_rows(place / "held_out.jsonl", range(20, 24))
    inputs = read("eval_loader.dataset.path=held_out.jsonl", "eval_loader.dataset.max_rows=3")
    assert inputs.evaluation is not None
    assert (len(inputs.train), len(inputs.evaluation)) == (10, 3)


def test_the_fingerprint_follows_content_and_order(place: Path) -> None:
    before = read().fingerprint
    assert read().fingerprint == before
    (place / "rows.jsonl").rename(place / "moved.jsonl")
    assert read("train_loader.dataset.path=moved.jsonl").fingerprint == before
    write_rows(place / "rows.jsonl", reversed(range(10)))
    assert read().fingerprint != before
    assert read("train_loader.dataset.path=moved.jsonl", "train_loader.dataset.max_rows=9").fingerprint != before


def test_bad_rows_are_a_mistake_until_a_threshold_is_set(place: Path) -> None:
    with open(place / "rows.jsonl", "a") as file:
        file.write("{torn\n")
    with pytest.raises(ConfigError) as caught:
        read()
    assert "rows.jsonl:11: " in str(caught.value)
    with pytest.raises(GateError, match=r"data\.checks\.max_bad_rows"):
        read("data.checks.max_bad_rows=0.05")
    assert len(read("data.checks.max_bad_rows=0.5").train) == 10


def test_too_few_rows_for_a_split_are_told_together_with_the_bad_ones(place: Path) -> None:
    (place / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n{torn\n[1]\n')
    with pytest.raises(ConfigError) as caught:
        read("data.split.validation=5")
    assert [line.partition(": ")[0] for line in str(caught.value).splitlines()] == [
        "override 'data.split.validation=5'",
        "job.yaml:2:16",
        "job.yaml:2:16",
    ]


# --- warm starts ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(place: Path) -> Path:
    """Two checkpoints of the run `first`, as far as a warm start looks at them."""
    folder = place / "runs" / "first" / "checkpoints"
    for name in ("ba00000002", "ba00000010"):
        (folder / name).mkdir(parents=True)
        (folder / name / "weights.safetensors").touch()
        (folder / name / "manifest.json").touch()
    (folder / "ba00000012").mkdir()
    return folder


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("runs:first", "ba00000010"),
        ("runs:first/ba00000002", "ba00000002"),
        ("runs/first/checkpoints/ba00000002", "ba00000002"),
    ],
)
def test_a_warm_start_finds_the_weights(checkpoints: Path, reference: str, name: str) -> None:
    assert warm_start_weights(reference, "runs").resolve() == checkpoints / name / "weights.safetensors"


@pytest.mark.parametrize(
    ("reference", "message", "fix"),
    [
        ("runs:second", "there are no checkpoints in runs/second/checkpoints", "name the folder of a checkpoint"),
        ("runs:first/ba3", "the run 'first' has no checkpoint 'ba3'", "it has ba00000002, ba00000010"),
        ("runs:../first", "'..' cannot be used as a run name", ""),
        ("model", "model is no checkpoint", "model.pretrained_model_name_or_path"),
        ("nowhere", "nowhere is no checkpoint", "runs:RUN"),
    ],
)
def test_a_warm_start_from_nothing_is_refused(checkpoints: Path, reference: str, message: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        warm_start_weights(reference, "runs")
    assert message in caught.value.message
    assert fix in (caught.value.fix or "")
