"""Steps of a training on the clock."""

from __future__ import annotations

import itertools
import resource
import statistics
from collections.abc import Callable, Sequence
from typing import Any


def speed(times: Sequence[float], *, tokens: int) -> dict[str, float]:
    """Medians over the steps behind the first two; the first one's extra is what compiling takes.

    Args:
        times: CPU-seconds of each step.
        tokens: of one step.
    """
    median = statistics.median(times[2:])
    return {
        "tokens_per_cpu_s": tokens / median,
        "compile_s": max(0.0, times[0] - median),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def step_times(trainer: Any, clock: Callable[[], float]) -> list[float]:
    """Fit, and take the time between the ends of two steps, so that everything the trainer does in between counts."""
    from genai.training.callbacks.base import Callback

    marks: list[float] = []

    class Clock(Callback):
        def fit_start(self, *, batch: int) -> None:
            marks.append(clock())

        def step_end(self, info: Any) -> dict[str, float]:
            marks.append(clock())
            return {}

    trainer.callbacks.insert(0, Clock())
    trainer.fit()
    return [after - before for before, after in itertools.pairwise(marks)]
