"""Where a training run's numbers go: metrics.jsonl, and the loggers that the job file names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from genai.config.loading import Loaded
from genai.tracking.loggers.base import LOGGERS, MetricLogger, flatten
from genai.tracking.metrics import MetricsLog, Record, read_metrics
from genai.tracking.run import RunDirectory
from genai.training.state import TrainState


class MetricSinks:
    """metrics.jsonl and the configured loggers; meets the trainer's `MetricSink`.

    Args:
        log: the run's metrics.jsonl.
        loggers: further places, which have been started.
        told: what was recorded at the step that the run goes on from; it is not told again.
    """

    def __init__(self, log: MetricsLog, loggers: Sequence[MetricLogger], told: Sequence[Record] = ()) -> None:
        self._log = log
        self._loggers = list(loggers)
        self._told = list(told)

    def log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Record `metrics` at `state`."""
        if any(record["step"] == state.batch and metrics.keys() <= record.keys() for record in self._told):
            return
        self._log.log(state.batch, metrics, epoch=state.epoch, tokens=state.tokens, time_s=state.train_time_s)
        for logger in self._loggers:
            logger.log(state.batch, metrics)

    def finish(self, status: str) -> None:
        """Close all."""
        self._log.close()
        for logger in self._loggers:
            logger.finish(status)


class NoMetrics:
    """For the ranks that record nothing."""

    def log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def finish(self, status: str) -> None:
        """Nothing."""


def open_metrics(loaded: Loaded[Any], directory: RunDirectory, *, resume_step: int) -> MetricSinks:
    """metrics.jsonl, cut to what happened up to `resume_step`, and the loggers of the job file."""
    log = MetricsLog(directory.metrics_path)
    log.truncate_after(resume_step if resume_step else -1)
    told = [record for record in read_metrics(directory.metrics_path) if record["step"] == resume_step]
    loggers = []
    for name, settings in asdict(loaded.config.loggers).items():
        if settings is not None:
            logger = LOGGERS.get(name)(directory.path, **settings)
            logger.start(directory.name, flatten(loaded.unresolved), resume_step=resume_step)
            loggers.append(logger)
    return MetricSinks(log, loggers, told)
