from __future__ import annotations

import threading
import time

import pytest

from genai.log import LineProgress
from genai.storage.parallel import THREADS, for_each


def test_items_are_done_at_the_same_time_and_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(THREADS, timeout=10)
    shown = []
    monkeypatch.setattr(LineProgress, "update", lambda self, completed, **fields: shown.append((completed, fields)))
    done: list[int] = []

    def operation(item: int) -> None:
        together.wait()
        done.append(item)

    for_each(operation, range(THREADS), description="x", size=lambda item: item * 1_000_000)
    assert sorted(done) == list(range(THREADS))
    assert shown[-1] == (sum(range(THREADS)), {"unit": "MB"})


def test_the_first_error_stops_what_has_not_begun() -> None:
    done: list[int] = []

    def operation(item: int) -> None:
        if item == 3:
            raise RuntimeError("planted")
        time.sleep(0.005)
        done.append(item)

    with pytest.raises(RuntimeError, match="planted"):
        for_each(operation, range(200), description="x", size=lambda item: 1)
    assert len(done) < 100
