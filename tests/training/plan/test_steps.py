"""Steps, tokens and rows of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from genai.config.durations import Duration
from genai.training.plan.steps import StepPlan, count_steps


@dataclass
class Stream:
    """Epochs of unequal length, as packing gives them."""

    lengths: list[int]
    asked: list[int] = field(default_factory=list)

    def batches_in_epoch(self, epoch: int) -> int:
        self.asked.append(epoch)
        return self.lengths[epoch % len(self.lengths)]


def plan(text: str, *lengths: int) -> StepPlan:
    return count_steps(Stream([*lengths]), Duration.parse(text), num_rows=80, num_tokens=4000)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "batches"), [("7ba", 7), ("3ep", 30), ("1000tok", 3), ("20sp", 3), ("1sp", 1)])
def test_durations(text: str, batches: int) -> None:
    assert plan(text, 10).batches == batches


def test_epochs_of_unequal_length_are_added_up() -> None:
    steps = plan("3ep", 10, 9, 11)
    assert (steps.batches, steps.epochs) == (30, 3)
    assert (steps.tokens_per_batch, steps.samples_per_batch, steps.tokens) == (400, 8, 12000)


def test_very_long_runs_are_not_packed_to_their_end() -> None:
    stream = Stream([10])
    steps = count_steps(stream, Duration.parse("5000ep"), num_rows=80, num_tokens=4000)  # type: ignore[arg-type]
    assert steps.batches == 50_000 and len(stream.asked) == 100
