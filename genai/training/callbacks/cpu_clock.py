"""CPU-seconds of a training, over all processes that it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from genai.training.callbacks.base import Callback


class CpuClock(Callback):
    """Counts from when it is made, or on from a checkpoint: what a kill threw away is not in it."""

    def __init__(self) -> None:
        self._before = 0.0
        self._started = time.process_time()

    @property
    def cpu_s(self) -> float:
        """Of this process and all of its threads, with those of the processes before it."""
        return self._before + time.process_time() - self._started

    def state_dict(self) -> dict[str, Any]:
        """What was used so far."""
        return {"cpu_s": self.cpu_s}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._before, self._started = float(state["cpu_s"]), time.process_time()
