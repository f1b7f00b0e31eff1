"""What a callback sees and may do. The trainer calls every hook of every callback, in the order of the list.

    fit_start
      per step:        before_step -> (optimizer step, unless one says False) -> step_end
      per evaluation:  eval_end
    fit_end

A hook may raise `StopTraining`; the trainer then ends in an orderly way. What a callback decides from must be in its
`state_dict`, so that a resumed run decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """Where training stands after a step, and what the step did."""

    batch: int
    """Optimizer steps so far, this one included."""
    epoch: int
    """Whole epochs that are done."""
    tokens: int
    """Tokens so far, padding left out."""
    samples: int
    """Rows of the data set so far."""
    loss: float
    """Mean cross-entropy over the trained tokens of the global batch, in nats."""
    grad_norm: float
    """L2 norm of the gradient before clipping."""
    lr: float
    """Learning rate the step was taken with."""
    num_tokens: int
    """Tokens of this step, padding left out."""
    num_trained_tokens: int
    """Tokens of this step that carry loss."""
    step_s: float
    """Wall time of this step in seconds, loading included, evaluation and saving left out."""


@dataclass(frozen=True, kw_only=True)
class EvalInfo:
    """The result of an evaluation and where training stood."""

    batch: int
    """Optimizer steps so far."""
    epoch: int
    """Whole epochs that are done."""
    tokens: int
    """Tokens so far, padding left out."""
    loss: float
    """Mean cross-entropy over the trained tokens of the evaluation rows, in nats."""
    best_loss: float
    """The lowest evaluation loss so far, this one included."""


class StopTraining(Exception):
    """Raised by a callback to end training after the hook.

    Args:
        reason: one line for the log, the report and the webhook.
        failed: True: the weights are not to be trusted (nothing is saved, exit code 1); False: a normal end.
    """

    def __init__(self, reason: str, *, failed: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.failed = failed


class Callback:
    """Watches training. All hooks do nothing by default; the metrics they return are merged into metrics.jsonl."""

    def fit_start(self, *, batch: int) -> None:
        """Training begins, or goes on after `batch` steps; the state has been loaded."""

    def before_step(self, loss: float, grad_norm: float, *, batch: int, row_ids: Sequence[Sequence[int]]) -> bool:
        """The gradient is complete, the optimizer has not moved yet.

        Args:
            loss: mean loss of the global batch, in nats.
            grad_norm: L2 norm of the gradient before clipping.
            batch: number of the step at hand, counted from 1.
            row_ids: for each row of the global batch, the indices of its examples.

        Returns:
            False: this optimizer step is skipped (the schedule and the data go on).
        """
        return True

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """A step is done (or was skipped)."""
        return {}

    def eval_end(self, info: EvalInfo) -> Mapping[str, float]:
        """An evaluation is done."""
        return {}

    def fit_end(self, status: str, message: str | None) -> None:
        """Training is over, whatever the reason.

        Args:
            status: `done` (an early stop included), `stopped` (by a signal) or `failed`.
            message: why, in one line; None when it simply came to its end.
        """

    def state_dict(self) -> dict[str, Any]:
        """What must survive a restart; JSON-able."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that `state_dict` gave."""
