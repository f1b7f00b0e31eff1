from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from genai.data.token_streams.read_ahead import ReadAhead


def test_items_come_in_order_and_end() -> None:
    ahead = ReadAhead(iter(range(20)), depth=3, name="t")
    assert [ahead.take() for _ in range(20)] == list(range(20))
    with pytest.raises(StopIteration):
        ahead.take()
    ahead.join()


def test_no_more_is_made_than_asked_for() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = ReadAhead(items(), depth=2, name="t")
    assert ahead.take() == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # one taken, two ready, one that waits
    ahead.stop()
    ahead.join()


def test_an_error_comes_in_its_place_and_stays() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = ReadAhead(items(), depth=5, name="t")
    assert ahead.take() == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            ahead.take()


def test_who_waits_learns_that_it_was_stopped() -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        gate.wait(10)
        yield 1

    ahead = ReadAhead(items(), depth=1, name="t")
    stopper = threading.Timer(0.05, ahead.stop)
    stopper.start()
    with pytest.raises(RuntimeError, match="was stopped"):
        ahead.take()
    gate.set()
    ahead.join()
    stopper.join()
