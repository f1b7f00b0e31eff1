"""Learning rate as a pure function of the position in the run: nothing to save, nothing to restore.

`build_schedule(...)(position)` is the factor of the peak learning rate for the step that starts at `position`. As in
Composer, the first step of a warm-up has factor 0 and a `dur` is a share of `max_duration`. A duration is measured in
its own unit; where two of different units meet (`t_warmup: 100ba` under `max_duration: 3ep`) one is converted with the
mean batches an epoch and tokens a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from genai.config.durations import Duration, Unit
from genai.config.training import ConstantConfig, CosineConfig, LinearConfig, SchedulerConfig, WSDConfig
from genai.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where the run stands before a step."""

    batch: int
    """Optimizer steps taken."""
    epoch: float
    """Epochs done; 1.5 is the middle of the second."""
    tokens: int = 0
    """Tokens seen, padding left out."""


Schedule = Callable[[Position], float]


def build_schedule(
    cfg: SchedulerConfig,
    *,
    max_duration: Duration,
    batches_per_epoch: float,
    tokens_per_batch: float | None = None,
    samples_per_batch: float | None = None,
) -> Schedule:
    """The schedule `cfg` describes.

    Args:
        cfg: scheduler section of the job.
        max_duration: length of the run, never in `dur`.
        batches_per_epoch: mean number of optimizer steps an epoch.
        tokens_per_batch: mean number of tokens an optimizer step; needed where tokens meet another unit.
        samples_per_batch: mean number of rows an optimizer step; needed where a duration is in `sp`.

    Raises:
        UsageError: two units meet and the number that converts them is not known, or the parts are longer than the run.
    """
    clock = _Clock(
        max_duration, {"ba": 1.0, "ep": 1 / batches_per_epoch, "tok": tokens_per_batch, "sp": samples_per_batch}
    )
    warmup = _warmup(clock, Duration.parse(cfg.t_warmup))
    match cfg:
        case ConstantConfig():
            return warmup
        case CosineConfig():
            return _decay(clock, warmup, cfg, _cosine)
        case LinearConfig():
            return _decay(clock, warmup, cfg, _line)
        case WSDConfig():
            return _stable_decay(clock, warmup, cfg)


class _Clock:
    """Measures positions and durations in any unit."""

    def __init__(self, max_duration: Duration, per_batch: dict[Unit, float | None]) -> None:
        self.max_duration = max_duration
        self._per_batch = per_batch

    def resolve(self, duration: Duration) -> Duration:
        """`duration` in a unit that can be counted: a share becomes that share of the run."""
        if duration.unit != "dur":
            return duration
        return Duration(duration.value * self.max_duration.value, self.max_duration.unit)

    def convert(self, duration: Duration, unit: Unit) -> float:
        """The length of `duration` in `unit`."""
        duration = self.resolve(duration)
        return (
            duration.value if duration.unit == unit else duration.value * self._rate(unit) / self._rate(duration.unit)
        )

    def now(self, position: Position, unit: Unit) -> float:
        """`position` in `unit`."""
        match unit:
            case "ep":
                return position.epoch
            case "tok":
                return position.tokens
            case _:
                return position.batch * self._rate(unit)

    def _rate(self, unit: Unit) -> float:
        rate = self._per_batch[unit]
        if rate is None:
            raise UsageError(
                f"the length of the run in '{unit}' is not known beforehand",
                where="scheduler",
                fix="give its durations in ba, ep or dur",
            )
        return rate


def _warmup(clock: _Clock, length: Duration) -> Schedule:
    length = clock.resolve(length)

    def factor(position: Position) -> float:
        now = clock.now(position, length.unit)
        return now / length.value if now < length.value else 1.0

    return factor


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def _line(share: float) -> float:
    return 1 - share


def _decay(
    clock: _Clock, warmup: Schedule, cfg: CosineConfig | LinearConfig, shape: Callable[[float], float]
) -> Schedule:
    """From 1 at the end of the warm-up to alpha_f at t_max, along `shape` (1 at 0, 0 at 1)."""
    end = clock.resolve(Duration.parse(cfg.t_max))
    start = clock.convert(Duration.parse(cfg.t_warmup), end.unit)
    if start >= end.value:
        raise UsageError(
            f"t_warmup ({cfg.t_warmup}) is not shorter than t_max ({cfg.t_max})",
            where="scheduler",
            fix="shorten t_warmup",
        )

    def factor(position: Position) -> float:
        risen = warmup(position)
        if risen < 1:
            return risen
        share = (clock.now(position, end.unit) - start) / (end.value - start)
        return cfg.alpha_f + (1 - cfg.alpha_f) * shape(min(1.0, max(0.0, share)))

    return factor


def _stable_decay(clock: _Clock, warmup: Schedule, cfg: WSDConfig) -> Schedule:
    end = clock.max_duration
    length = clock.convert(Duration.parse(cfg.t_decay), end.unit)
    if clock.convert(Duration.parse(cfg.t_warmup), end.unit) + length > end.value * (1 + 1e-9):
        raise UsageError(
            f"t_warmup ({cfg.t_warmup}) and t_decay ({cfg.t_decay}) together are longer than the run ({end})",
            where="scheduler",
            fix="shorten one of them",
        )

    def factor(position: Position) -> float:
        left = (end.value - clock.now(position, end.unit)) / length if length else 1.0
        decayed = cfg.alpha_f + (1 - cfg.alpha_f) * min(1.0, max(0.0, left))
        return min(warmup(position), decayed)

    return factor
