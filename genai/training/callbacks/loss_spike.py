"""Act on a loss that jumps far above its recent course."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

from genai.log import get_logger
from genai.training.callbacks.base import Callback, StepInfo, StopTraining

_MIN_HISTORY = 5
"""Losses needed before the median says anything."""
_MIN_RISE = 0.1
"""Nats above the median below which nothing is a spike: near zero a loss varies by factors from batch to batch."""

_log = get_logger(__name__)


class LossSpike(Callback):
    """Compares each loss with the median of the losses before it.

    Args:
        window: batches that make the median.
        threshold: a spike is a loss above threshold times the median.
        action: `warn` logs it, once per rise; `stop` ends the training as failed.
    """

    def __init__(self, *, window: int, threshold: float, action: Literal["warn", "stop"]) -> None:
        self._window = window
        self._threshold = threshold
        self._action = action
        self._losses: deque[float] = deque()
        self._sorted: list[float] = []
        self._in_spike = False

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """Judge the loss, then take it into the window; a loss that is not finite is the NaN guard's business.

        Raises:
            StopTraining: a spike, and the action is `stop`.
        """
        if not math.isfinite(info.loss):
            return {}
        median = self._median()
        spike = median is not None and info.loss > max(self._threshold * median, median + _MIN_RISE)
        if spike and not self._in_spike:
            self._report(info, median)
        self._in_spike = spike
        self._append(info.loss)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The window."""
        return {"losses": list(self._losses), "in_spike": self._in_spike}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the window; one saved with a longer `window` is cut to its newest losses."""
        self._losses = deque(state["losses"][-self._window :])
        self._sorted = sorted(self._losses)
        self._in_spike = state["in_spike"]

    def _report(self, info: StepInfo, median: float | None) -> None:
        text = (
            f"loss spike at batch {info.batch}: {info.loss:.4f} is more than {self._threshold:g} times "
            f"the median {median:.4f} of the last {len(self._losses)} batches"
        )
        if self._action == "stop":
            raise StopTraining(text, failed=True)
        _log.warning("%s (gradient norm %.3g, learning rate %.3g)", text, info.grad_norm, info.lr)

    def _median(self) -> float | None:
        count = len(self._sorted)
        if count < min(_MIN_HISTORY, self._window):
            return None
        return (self._sorted[(count - 1) // 2] + self._sorted[count // 2]) / 2

    def _append(self, loss: float) -> None:
        # Kept sorted, so that a wide window costs a bisection a step and not a sort.
        self._losses.append(loss)
        insort(self._sorted, loss)
        if len(self._losses) > self._window:
            del self._sorted[bisect_left(self._sorted, self._losses.popleft())]
