"""Numbers go to metrics.jsonl and to the loggers, and a resumed run tells none of them twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded, load
from genai.jobs.metric_sinks import MetricSinks, open_metrics
from genai.tracking.metrics import MetricsLog, read_metrics
from genai.tracking.run import RunDirectory
from genai.training.state import TrainState


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.finished: list[str] = []

    def start(self, run_name: str, params: Mapping[str, str], *, resume_step: int = 0) -> None: ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.told.append((step, dict(metrics)))

    def finish(self, status: str) -> None:
        self.finished.append(status)


def at(batch: int) -> TrainState:
    return replace(TrainState(), batch=batch, tokens=10 * batch, epoch=1, train_time_s=0.5)


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded[FinetuneConfig]:
    path = tmp_path / "job.yaml"
    path.write_text("model: {pretrained_model_name_or_path: m}\ntrain_loader: {dataset: {path: rows.jsonl}}\n")
    return load(path, FinetuneConfig)


def test_every_place_is_told_and_closed(tmp_path: Path) -> None:
    logger = Recorder()
    sinks = MetricSinks(MetricsLog(tmp_path / "metrics.jsonl"), [logger])
    sinks.log(at(1), {"loss/train": 2.0})
    sinks.finish("done")
    assert logger.told == [(1, {"loss/train": 2.0})]
    assert logger.finished == ["done"]
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 1, "epoch": 1, "tokens": 10, "time_s": 0.5, "loss/train": 2.0}
    ]


def test_a_resumed_run_forgets_what_came_after_and_repeats_nothing(tmp_path: Path, loaded: Any) -> None:
    directory = RunDirectory.open(tmp_path, "run")
    first = open_metrics(loaded, directory, resume_step=0)
    for batch in (1, 2, 3):
        first.log(at(batch), {"loss/train": float(batch)})
        first.log(at(batch), {"loss/eval": batch + 0.5})
    first.finish("stopped")
    second = open_metrics(loaded, directory, resume_step=2)
    second.log(at(2), {"loss/eval": 2.5})
    second.log(at(3), {"loss/train": 3.0})
    second.log(at(3), {"loss/eval": 3.5})
    second.finish("done")
    told = [
        (record["step"], record.get("loss/train", record.get("loss/eval")))
        for record in read_metrics(directory.metrics_path)
    ]
    assert told == [(1, 1.0), (1, 1.5), (2, 2.0), (2, 2.5), (3, 3.0), (3, 3.5)]


def test_an_evaluation_that_was_not_told_before_the_kill_is_told_now(tmp_path: Path, loaded: Any) -> None:
    directory = RunDirectory.open(tmp_path, "run")
    first = open_metrics(loaded, directory, resume_step=0)
    first.log(at(2), {"loss/train": 2.0})
    first.finish("failed")
    second = open_metrics(loaded, directory, resume_step=2)
    second.log(at(2), {"loss/eval": 2.5})
    second.finish("done")
    assert [record["step"] for record in read_metrics(directory.metrics_path) if "loss/eval" in record] == [2]


def test_a_new_run_begins_with_an_empty_file(tmp_path: Path, loaded: Any) -> None:
    directory = RunDirectory.open(tmp_path, "run")
    directory.metrics_path.write_text('{"step": 0, "loss/eval": 1.0}\n')
    open_metrics(loaded, directory, resume_step=0).finish("done")
    assert read_metrics(directory.metrics_path) == []
