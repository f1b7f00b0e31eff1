"""Peak memory of the process and of the accelerator."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from genai.training.callbacks.base import Callback, StepInfo

_STATM = Path("/proc/self/statm")


class MemoryMonitor(Callback):
    """Logs resident memory, now and at its peak, and the accelerator's peak where there is one.

    Args:
        device_peak_bytes: reads the accelerator's peak of allocated memory, None on a CPU.
        every: steps between two readings.
    """

    def __init__(self, *, device_peak_bytes: Callable[[], int] | None = None, every: int = 10) -> None:
        self._device_peak_bytes = device_peak_bytes
        self._every = every
        self._started_at = 0
        self.rss_bytes = 0
        """Resident memory at the last reading."""
        self.device_bytes: int | None = None
        """The accelerator's peak at the last reading; None on a CPU."""

    def fit_start(self, *, batch: int) -> None:
        """The first step of this process is always read."""
        self._started_at = batch

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """Read at the first step and at every `every`-th after it."""
        if (info.batch - self._started_at) % self._every != 1 % self._every:
            return {}
        self.rss_bytes = resident_bytes()
        metrics = {"memory/rss_bytes": float(self.rss_bytes), "memory/peak_rss_bytes": float(peak_resident_bytes())}
        if self._device_peak_bytes is not None:
            self.device_bytes = self._device_peak_bytes()
            metrics["memory/device_peak_bytes"] = float(self.device_bytes)
        return metrics


def resident_bytes() -> int:
    """Resident memory of this process; its peak where the system does not tell the present value."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return peak_resident_bytes()
    return pages * resource.getpagesize()


def peak_resident_bytes() -> int:
    """The most resident memory this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def cuda_peak_bytes() -> int:
    """Most memory that torch's allocator held on the current CUDA device."""
    import torch

    return torch.cuda.max_memory_allocated()
