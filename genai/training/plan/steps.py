"""How many optimizer steps, tokens and rows a run comes to, before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from genai.config.durations import Duration
from genai.training.interfaces import TrainStream

_EPOCHS_COUNTED = 100
"""Packing an epoch's lengths costs about a second a million rows; later epochs of a longer run are taken to be
alike."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The length of a run."""

    batches: int
    """Optimizer steps; exact for durations in `ba` and `ep`, within one batch's scatter for `tok` and `sp`."""
    batches_per_epoch: float
    """Mean over the epochs of the run."""
    tokens_per_batch: float
    """Mean, padding left out."""
    samples_per_batch: float
    """Mean number of examples."""

    @property
    def tokens(self) -> int:
        """Tokens of the whole run, padding left out."""
        return round(self.batches * self.tokens_per_batch)

    @property
    def epochs(self) -> float:
        """Passes over the rows."""
        return self.batches / self.batches_per_epoch


def count_steps(stream: TrainStream, max_duration: Duration, *, num_rows: int, num_tokens: int) -> StepPlan:
    """The length of a run over `stream`.

    Args:
        stream: the training batches.
        max_duration: in `ba`, `ep`, `tok` or `sp`.
        num_rows: examples an epoch.
        num_tokens: tokens an epoch, padding left out.
    """
    epochs = math.ceil(max_duration.value) if max_duration.unit == "ep" else 1
    counted = [stream.batches_in_epoch(epoch) for epoch in range(min(epochs, _EPOCHS_COUNTED))]
    per_epoch = sum(counted) / len(counted)
    tokens_per_batch, samples_per_batch = num_tokens / per_epoch, num_rows / per_epoch
    match max_duration.unit:
        case "ba":
            batches = int(max_duration.value)
        case "ep":
            batches = round(per_epoch * epochs)
        case "tok":
            batches = math.ceil(max_duration.value / tokens_per_batch)
        case _:
            batches = math.ceil(max_duration.value / samples_per_batch)
    return StepPlan(
        batches=max(1, batches),
        batches_per_epoch=per_epoch,
        tokens_per_batch=tokens_per_batch,
        samples_per_batch=samples_per_batch,
    )
