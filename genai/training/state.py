"""Where a training run stands, and which events fall due between two such positions. Pure Python: no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from genai.config.durations import Duration


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The position of a run, counted over all devices; everything here is in the checkpoint."""

    batch: int = 0
    """Optimizer steps taken (skipped ones included)."""
    epoch: int = 0
    """Complete passes over the training rows."""
    batch_in_epoch: int = 0
    """Batches since the current epoch began."""
    tokens: int = 0
    """Tokens seen, padding left out."""
    trained_tokens: int = 0
    """Tokens that carried a loss."""
    samples: int = 0
    """Rows of the data seen."""
    best_eval_loss: float | None = None
    """Lowest evaluation loss so far."""
    best_checkpoint: str | None = None
    """Name of the checkpoint with the lowest evaluation loss, of those that were evaluated."""
    best_checkpoint_loss: float | None = None
    """Its loss."""
    evaluation_due: bool = False
    """An evaluation belongs to this position and has not been done yet."""
    train_time_s: float = 0.0
    """Seconds spent in training steps, over all resumes."""
    exact: bool = True
    """False once a resume could not promise to be bit-equal."""
    inexact_reasons: tuple[str, ...] = field(default=())
    """What differed at those resumes."""

    def advance(self, *, tokens: int, trained_tokens: int, samples: int, ends_epoch: bool, step_s: float) -> TrainState:
        """The position after one more batch."""
        return replace(
            self,
            batch=self.batch + 1,
            epoch=self.epoch + int(ends_epoch),
            batch_in_epoch=0 if ends_epoch else self.batch_in_epoch + 1,
            tokens=self.tokens + tokens,
            trained_tokens=self.trained_tokens + trained_tokens,
            samples=self.samples + samples,
            train_time_s=self.train_time_s + step_s,
        )

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainState:
        """The state that `to_json` gave."""
        return cls(**{**values, "inexact_reasons": tuple(values["inexact_reasons"])})


def amount(state: TrainState, unit: str, *, total_batches: int | None = None) -> float:
    """How far `state` is, in `unit`; a share of the run (`dur`) is counted in batches of `total_batches`."""
    match unit:
        case "ba":
            return state.batch
        case "ep":
            return state.epoch
        case "tok":
            return state.tokens
        case "sp":
            return state.samples
        case "dur":
            if total_batches is None:
                raise ValueError("a share of the run needs total_batches")
            return state.batch / total_batches
    raise ValueError(f"unknown unit {unit!r}")


def is_done(state: TrainState, max_duration: Duration) -> bool:
    """Whether the run has reached its end."""
    return amount(state, max_duration.unit) >= max_duration.value


def is_due(interval: Duration, before: TrainState, after: TrainState, *, total_batches: int | None = None) -> bool:
    """Whether a multiple of `interval` was reached between two positions."""
    if interval.unit == "dur":
        # A share is rounded to whole batches once, so that rounding errors cannot shift single events.
        assert total_batches is not None
        every = max(1, round(interval.value * total_batches))
        return after.batch // every > before.batch // every
    return int(amount(after, interval.unit) // interval.value) > int(amount(before, interval.unit) // interval.value)
