"""The progress bar of training."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from contextlib import ExitStack

from genai.log import ProgressTask, progress
from genai.training.callbacks.base import Callback, StepInfo
from genai.training.callbacks.memory_monitor import MemoryMonitor
from genai.training.callbacks.speed_monitor import SpeedMonitor


class Progress(Callback):
    """Shows how far training is: loss, tokens a second, time left, memory.

    Args:
        total_batches: length of the training, None where it is unknown.
        speed: a monitor that stands before this callback in the list.
        memory: a monitor that stands before this callback in the list.
    """

    def __init__(self, *, total_batches: int | None, speed: SpeedMonitor, memory: MemoryMonitor) -> None:
        self._total_batches = total_batches
        self._speed = speed
        self._memory = memory
        self._open = ExitStack()
        self._task: ProgressTask | None = None

    def fit_start(self, *, batch: int) -> None:
        """Open the bar, at `batch` when training goes on."""
        self._open.close()
        self._task = self._open.enter_context(progress("training", self._total_batches))
        if batch:
            self._task.update(batch)

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """Move the bar."""
        if self._task is not None:
            self._task.update(info.batch, **self._fields(info))
        return {}

    def fit_end(self, status: str, message: str | None) -> None:
        """Close the bar."""
        self._open.close()
        self._task = None

    def _fields(self, info: StepInfo) -> dict[str, str]:
        fields = {"loss": f"{info.loss:.3f}"}
        if self._speed.step_s:
            fields["tok/s"] = f"{self._speed.tokens_per_s:,.0f}"
            if self._total_batches is not None:
                left_s = max(0, self._total_batches - info.batch) * self._speed.step_s
                fields["eta"] = str(datetime.timedelta(seconds=round(left_s)))
        used = self._memory.rss_bytes if self._memory.device_bytes is None else self._memory.device_bytes
        if used:
            fields["mem"] = f"{used / 2**30:.1f}GiB"
        return fields
