"""A fault that a room finds is told at the place of the key that it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded, load
from genai.errors import ConfigError, CredentialsError, DataError, GateError, MissingExtraError, Problem, UsageError
from genai.jobs.problems import Problems, at, located, named_keys

TEXT = """\
model:
  pretrained_model_name_or_path: folder
  config_overrides:
    attention_dropout: 0.5
train_loader:
  dataset:
    path: data.jsonl
    hf_kwargs: {}
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded[FinetuneConfig]:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(TEXT)
    return load("job.yaml", FinetuneConfig, ["optimizer.lr=0.1"])


@pytest.mark.parametrize(
    ("key", "problem", "line"),
    [
        ("model", Problem(message="broken"), "job.yaml:1:1: broken"),
        (
            "model",
            Problem(message="broken", where="weights.bin", fix="mend it"),
            "job.yaml:1:1: weights.bin: broken (mend it)",
        ),
        ("optimizer", Problem(message="broken"), "override 'optimizer.lr=0.1': broken"),
        # The room names the key itself, in full or as seen from the section that it was given.
        (
            "model",
            Problem(message="must be float", where="model.config_overrides.attention_dropout"),
            "job.yaml:4:5: model.config_overrides.attention_dropout must be float",
        ),
        (
            "model",
            Problem(message="'attention_dropout' is none", where="model.config_overrides.attention_dropout"),
            "job.yaml:4:5: 'attention_dropout' is none",
        ),
        (
            "train_loader.dataset.path",
            Problem(message="takes no x", where="hf_kwargs"),
            "job.yaml:8:5: train_loader.dataset.hf_kwargs takes no x",
        ),
        # Not written in the file: the closest section that is.
        (
            "model",
            Problem(message="too large", where="scheduler.t_warmup"),
            "job.yaml:1:1: scheduler.t_warmup too large",
        ),
        # A file may be called like a section.
        ("train_loader.dataset", Problem(message="torn", where="data.jsonl:3"), "job.yaml:6:3: data.jsonl:3: torn"),
    ],
)
def test_where_a_problem_is_told(loaded: Any, key: str, problem: Problem, line: str) -> None:
    assert located(loaded, key, problem).line() == line


def test_all_faults_are_collected(loaded: Any) -> None:
    problems = Problems(loaded)
    with problems.at("model.pretrained_model_name_or_path"):
        raise UsageError("no such folder")
    with problems.at("train_loader.dataset.path"):
        raise DataError("empty", where="data.jsonl")
    with problems.at("model"):
        raise MissingExtraError("peft", extra="train", needed_for="an adapter")
    problems.add("seed", "odd", "take an even one")
    assert len(problems) == 4
    with pytest.raises(ConfigError) as caught:
        problems.raise_all()
    places = [problem.where for problem in caught.value.problems]
    assert places == ["job.yaml:2:3", "job.yaml:7:5", "job.yaml:1:1", "job.yaml:1:1"]
    assert caught.value.exit_code == 2


def test_nothing_found_is_nothing_raised(loaded: Any) -> None:
    problems = Problems(loaded)
    with problems.at("model"):
        pass
    problems.raise_all()
    assert not problems


@pytest.mark.parametrize("error", [CredentialsError("no token"), GateError("too many"), ValueError("a bug")])
def test_what_is_no_mistake_of_the_file_passes(loaded: Any, error: Exception) -> None:
    def fail() -> None:
        with at(loaded, "model"):
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error


def _raise(error: Exception) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_an_error_that_names_a_key_is_told_at_that_key(loaded: Any) -> None:
    action = _raise(UsageError("t_warmup is too long", where="optimizer.lr", fix="shorten it"))
    with pytest.raises(ConfigError) as caught, named_keys(loaded):
        action()
    assert str(caught.value) == "override 'optimizer.lr=0.1': optimizer.lr t_warmup is too long (shorten it)"


def test_an_error_that_names_something_else_passes(loaded: Any) -> None:
    error = UsageError("there is no run", where="runs")
    with pytest.raises(UsageError) as caught, named_keys(loaded):
        _raise(error)()
    assert caught.value is error
