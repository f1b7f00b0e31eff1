"""What the callback tests share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from genai import log
from genai.training.callbacks.base import EvalInfo, StepInfo


@pytest.fixture
def step_info() -> Callable[..., StepInfo]:
    """Makes a StepInfo of an ordinary step of 8 rows and 1,000 tokens in half a second."""

    def make(batch: int = 1, **changes: Any) -> StepInfo:
        values: dict[str, Any] = {
            "batch": batch,
            "epoch": 0,
            "tokens": 1000 * batch,
            "samples": 8 * batch,
            "loss": 2.0,
            "grad_norm": 1.0,
            "lr": 1e-4,
            "num_tokens": 1000,
            "num_trained_tokens": 400,
            "step_s": 0.5,
        }
        return StepInfo(**{**values, **changes})

    return make


@pytest.fixture
def eval_info() -> Callable[..., EvalInfo]:
    """Makes an EvalInfo with a given loss."""

    def make(loss: float, batch: int = 1) -> EvalInfo:
        return EvalInfo(batch=batch, epoch=0, tokens=1000 * batch, loss=loss, best_loss=loss)

    return make


class RecordedBar:
    """A progress task that keeps what it was told."""

    def __init__(self, description: str, total: float | None) -> None:
        self.description = description
        self.total = total
        self.updates: list[tuple[float, dict[str, str]]] = []
        self.closed = 0

    def update(self, completed: float, **fields: str) -> None:
        self.updates.append((completed, fields))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def bars() -> Iterator[list[RecordedBar]]:
    """All progress bars that were opened, recorded."""
    opened: list[RecordedBar] = []

    def make(description: str, total: float | None) -> RecordedBar:
        opened.append(RecordedBar(description, total))
        return opened[-1]

    log.set_progress_factory(make)
    yield opened
    log.set_progress_factory(log.LineProgress)
