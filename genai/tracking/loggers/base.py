"""What a metric logger is, and how one is found by the name a job file gives it.

A logger is a second home for numbers that stand in metrics.jsonl anyway, so it may lose some, with a warning, but never
stop or slow a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from genai.registry import Registry


class MetricLogger(Protocol):
    """One place that metrics are sent to. Calls come from one thread, in the order start, log ..., finish."""

    def start(self, run_name: str, params: Mapping[str, str], *, resume_step: int = 0) -> None:
        """Open the run.

        Args:
            run_name: the run's name.
            params: what the run was started with, see `flatten`.
            resume_step: the step that a resumed run goes on from; what an earlier process logged after it is void.
        """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log values at `step` (optimizer steps done); returns at once."""

    def finish(self, status: str) -> None:
        """Send what is left and close the run; `status` is one of `genai.tracking.status.Status`."""


class LoggerFactory(Protocol):
    """Makes a logger from the run directory and the keys under its name in the job file's `loggers`."""

    def __call__(self, run_directory: Path, **settings: Any) -> MetricLogger: ...


LOGGERS: Registry[LoggerFactory] = Registry(
    "logger",
    {
        "tensorboard": "genai.tracking.loggers.tensorboard:TensorboardLogger",
        "mlflow": "genai.tracking.loggers.mlflow:MLflowLogger",
        "wandb": "genai.tracking.loggers.wandb:WandbLogger",
    },
    group="genai.loggers",
)


def flatten(config: Mapping[str, Any]) -> dict[str, str]:
    """A nested config as parameters, `{"optimizer.lr": "1e-05", "optimizer.betas.0": "0.9"}`; nothing is resolved."""
    flat: dict[str, str] = {}
    _flatten_into(flat, "", config)
    return flat


def _flatten_into(flat: dict[str, str], prefix: str, value: Any) -> None:
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            _flatten_into(flat, f"{prefix}.{key}" if prefix else str(key), child)
    elif isinstance(value, list) and value:
        for index, child in enumerate(value):
            _flatten_into(flat, f"{prefix}.{index}", child)
    else:
        flat[prefix] = str(value)
