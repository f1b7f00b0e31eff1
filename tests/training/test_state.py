"""Positions, and what falls due between two of them."""

import json
from itertools import pairwise

import pytest

from genai.config.durations import Duration
from genai.training.state import TrainState, is_done, is_due


def _walk(num_batches: int, *, per_epoch: int, tokens: int = 100) -> list[TrainState]:
    states = [TrainState()]
    for index in range(num_batches):
        ends = (index + 1) % per_epoch == 0
        states.append(states[-1].advance(tokens=tokens, trained_tokens=10, samples=4, ends_epoch=ends, step_s=0.5))
    return states


def _due_at(interval: str, states: list[TrainState], total: int) -> list[int]:
    parsed = Duration.parse(interval)
    return [after.batch for before, after in pairwise(states) if is_due(parsed, before, after, total_batches=total)]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("4ba", [4, 8, 12]),
        ("1ep", [5, 10]),
        ("2ep", [10]),
        ("250tok", [3, 5, 8, 10]),
        ("12sp", [3, 6, 9, 12]),
        ("0.5dur", [6, 12]),
        ("0.001dur", list(range(1, 13))),
    ],
)
def test_events_fall_due_when_a_multiple_is_reached(interval: str, expected: list[int]) -> None:
    assert _due_at(interval, _walk(12, per_epoch=5), total=12) == expected


@pytest.mark.parametrize(("duration", "last"), [("7ba", 7), ("2ep", 10), ("1e3tok", 10), ("20sp", 5)])
def test_a_run_is_done_at_its_duration(duration: str, last: int) -> None:
    states = _walk(12, per_epoch=5)
    assert next(state.batch for state in states if is_done(state, Duration.parse(duration))) == last


def test_advancing_counts_and_starts_a_new_epoch() -> None:
    state = _walk(6, per_epoch=5)[-1]
    assert (state.batch, state.epoch, state.batch_in_epoch) == (6, 1, 1)
    assert (state.tokens, state.trained_tokens, state.samples, state.train_time_s) == (600, 60, 24, 3.0)


def test_a_state_survives_json() -> None:
    state = TrainState(batch=3, best_eval_loss=0.1 + 0.2, exact=False, inexact_reasons=("threads: 2 -> 1",))
    assert TrainState.from_json(json.loads(json.dumps(state.to_json()))) == state
