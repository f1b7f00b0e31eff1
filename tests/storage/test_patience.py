from __future__ import annotations

from collections.abc import Callable

import pytest

from genai.errors import GenaiError
from genai.storage import patience
from genai.storage.patience import Patience, Trouble


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, pause_s: float) -> None:
        self.slept.append(pause_s)
        self.now += pause_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def store(*, transient: bool = True, unreachable: bool = False) -> Patience:
    def understand(error: Exception, key: str | None) -> Trouble | None:
        if not isinstance(error, OSError):
            return None
        explained = GenaiError(f"explained {key}: {error}")
        return Trouble(cause=error, transient=transient, unreachable=unreachable, explain=lambda: explained)

    return Patience("s3://bucket", understand)


def failing(times: int) -> Callable[[], str]:
    left = [OSError("planted")] * times

    def operation() -> str:
        if left:
            raise left.pop()
        return "done"

    return operation


def test_what_may_go_well_later_is_tried_again_after_longer_and_longer_pauses(clock: Clock) -> None:
    assert store().call("key", failing(8)) == "done"
    assert clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_after_a_minute_it_is_given_up(clock: Clock) -> None:
    with pytest.raises(GenaiError, match="explained key: planted"):
        store().call("key", failing(100))
    assert clock.now <= patience.PATIENCE_S


def test_what_cannot_go_well_is_explained_at_once(clock: Clock) -> None:
    with pytest.raises(GenaiError, match="explained None: planted"):
        store(transient=False).call(None, failing(1))
    assert clock.slept == []


def test_a_server_that_nobody_has_reached_is_not_waited_for_but_one_that_answered_is(clock: Clock) -> None:
    asked = store(unreachable=True)
    with pytest.raises(GenaiError, match="explained"):
        asked.call("key", failing(1))
    assert asked.call("key", failing(0)) == "done"
    assert asked.call("key", failing(2)) == "done"
    assert clock.slept == [0.25, 0.5]


def test_a_fault_of_ours_is_not_explained_away(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        store().call("key", lambda: 1 / 0)
