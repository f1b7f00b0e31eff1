"""Never step on a loss or gradient that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genai.log import get_logger
from genai.training.callbacks.base import Callback, StepInfo, StopTraining

_MAX_ROWS_NAMED = 8

_log = get_logger(__name__)


class NaNGuard(Callback):
    """Skips an optimizer step whose loss or gradient is not finite, and ends training when they come in a row.

    Args:
        max_skipped: skipped steps in a row that are borne.
        name_row: index of an example -> how to name it to the user, such as `path:line`.
    """

    def __init__(self, *, max_skipped: int, name_row: Callable[[int], str] = str) -> None:
        self._max_skipped = max_skipped
        self._name_row = name_row
        self._in_a_row = 0
        self._total = 0

    def before_step(self, loss: float, grad_norm: float, *, batch: int, row_ids: Sequence[Sequence[int]]) -> bool:
        """Whether loss and gradient norm are finite.

        Raises:
            StopTraining: more than `max_skipped` steps in a row were not.
        """
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        self._total += 1
        what = f"loss {loss:g}, gradient norm {grad_norm:g} at batch {batch} (rows {self._name_rows(row_ids)})"
        if self._in_a_row > self._max_skipped:
            raise StopTraining(
                f"{what}: not finite for {self._in_a_row} steps in a row; lower optimizer.lr, or look at these rows",
                failed=True,
            )
        _log.warning("%s: optimizer step skipped (%d in a row, %d allowed)", what, self._in_a_row, self._max_skipped)
        return False

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """How many steps were skipped so far; silent while there are none."""
        return {"nan_guard/skipped_steps": float(self._total)} if self._total else {}

    def state_dict(self) -> dict[str, Any]:
        """Both counts."""
        return {"in_a_row": self._in_a_row, "total": self._total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up both counts."""
        self._in_a_row, self._total = state["in_a_row"], state["total"]

    def _name_rows(self, row_ids: Sequence[Sequence[int]]) -> str:
        examples = [index for row in row_ids for index in row]
        named = ", ".join(self._name_row(index) for index in examples[:_MAX_ROWS_NAMED])
        left_out = len(examples) - _MAX_ROWS_NAMED
        return f"{named} and {left_out} more" if left_out > 0 else named
