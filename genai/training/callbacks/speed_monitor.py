"""Throughput over a moving window."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from genai.training.callbacks.base import Callback, StepInfo


@dataclass(frozen=True, kw_only=True)
class FlopsModel:
    """What model FLOPs utilisation is computed from."""

    flops_per_token: float
    """Forward and backward FLOPs of a token without recomputation: 6N plus attention."""
    peak_flops: float
    """Dense peak of all devices together in the precision that is trained in, in FLOP/s."""


class SpeedMonitor(Callback):
    """Logs tokens, rows and steps a second over the last `window` steps.

    The first step of the process is left out: it pays for warming up, compiling and filling caches.

    Args:
        window: steps that are averaged.
        flops: where known, the utilisation (MFU) is logged as well.
        num_devices: how many train together.
    """

    def __init__(self, *, window: int = 20, flops: FlopsModel | None = None, num_devices: int = 1) -> None:
        self._flops = flops
        self._num_devices = num_devices
        self._steps: deque[tuple[float, int, int]] = deque(maxlen=window)
        self._samples_before: int | None = None
        self.tokens_per_s = 0.0
        """Tokens a second, padding left out; 0 before the second step."""
        self.step_s = 0.0
        """Mean seconds a step; 0 before the second step."""

    def fit_start(self, *, batch: int) -> None:
        """Forget what was measured in an earlier fit."""
        self._steps.clear()
        self._samples_before = None
        self.tokens_per_s = self.step_s = 0.0

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """The window's means, from the second step on."""
        before, self._samples_before = self._samples_before, info.samples
        if before is None:
            return {}
        self._steps.append((info.step_s, info.num_tokens, info.samples - before))
        seconds = sum(step[0] for step in self._steps)
        if seconds <= 0:
            return {}
        self.step_s = seconds / len(self._steps)
        self.tokens_per_s = sum(step[1] for step in self._steps) / seconds
        metrics = {
            "throughput/tokens_per_sec": self.tokens_per_s,
            "throughput/device/tokens_per_sec": self.tokens_per_s / self._num_devices,
            "throughput/samples_per_sec": sum(step[2] for step in self._steps) / seconds,
            "throughput/step_s": self.step_s,
        }
        if self._flops is not None:
            metrics["throughput/mfu"] = self.tokens_per_s * self._flops.flops_per_token / self._flops.peak_flops
        return metrics
