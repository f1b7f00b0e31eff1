"""What every `--dry-run` of a training job measures and how it words it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from genai.jobs.metric_sinks import MetricSinks
from genai.log import progress
from genai.tracking.metrics import MetricsLog
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.training.trainer import MetricSink, Trainer

_PROBE_STEPS = 3


def time_steps(make_trainer: Callable[[RunDirectory, MetricSink], Trainer]) -> float:
    """Tokens a second over a few steps of the real trainer, the first of which is not counted; the weights move, and
    are then dropped.

    Args:
        make_trainer: builds it, with its checkpoints in a run directory that is thrown away.
    """
    with tempfile.TemporaryDirectory(prefix="genai-probe-") as scratch, progress("timing steps", _PROBE_STEPS) as task:
        directory = RunDirectory.open(scratch, "probe")
        trainer = make_trainer(directory, MetricSinks(MetricsLog(directory.metrics_path), []))
        trainer.model.train()
        trainer.step()
        before, started = trainer.state.tokens, time.perf_counter()
        for number in range(_PROBE_STEPS):
            trainer.step()
            task.update(number + 1)
        return (trainer.state.tokens - before) / (time.perf_counter() - started)


def table(lines: Sequence[tuple[str, str]]) -> str:
    """Names on the left, texts on the right."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def memory_lines(parts: Mapping[str, int], moment: str, available_bytes: int) -> list[tuple[str, str]]:
    """The predicted peak and what it consists of, the largest part first."""
    free = f"{size_text(available_bytes)} free"
    if not parts:
        return [("memory", f"not predicted, {free}")]
    whole = f"{size_text(sum(parts.values()))} at its peak ({moment}), {free}"
    largest_first = sorted(parts.items(), key=lambda part: -part[1])
    return [("memory", whole), *((f"  {name}", size_text(size)) for name, size in largest_first)]


def disk_text(num_checkpoints: int, checkpoint_bytes: int, model_bytes: int, free_bytes: int | None) -> str:
    """What checkpoints and model take; `free_bytes` is None for a bucket."""
    checkpoints = f"{num_checkpoints} checkpoints of {size_text(checkpoint_bytes)}"
    free = "" if free_bytes is None else f", {size_text(free_bytes)} free"
    return f"at most {checkpoints}, model {size_text(model_bytes)}{free}"


def write_lines(paths: Sequence[str]) -> list[tuple[str, str]]:
    """What will be written."""
    return [("writes" if path == paths[0] else "", path) for path in paths]


def size_text(size_bytes: int) -> str:
    """In a unit that leaves three digits to read."""
    return f"{size_bytes / 2**30:.2f} GiB" if size_bytes >= 2**29 else f"{size_bytes / 2**20:.1f} MiB"


def time_text(seconds: float) -> str:
    """About how long."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.1f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
