import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from loops import on_a_loop

from genai.evaluation.records import Failure
from genai.evaluation.targets import retrying
from genai.evaluation.targets.retrying import Patience, Refusal


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are ten times shorter, and written down at full length."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def short(seconds: float) -> None:
        made.append(seconds)
        await sleep(seconds / 10)

    monkeypatch.setattr(retrying.asyncio, "sleep", short)
    return made


def patience(**values: Any) -> Patience:
    return Patience(**{"server": "http://host", "concurrency": 8, "max_attempts": 4, "timeout_s": 5.0, **values})


def answers(*planned: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    """An attempt that brings one after the other."""
    left = list(planned)

    async def attempt() -> Any:
        return left.pop(0)

    return attempt


@on_a_loop
async def test_refusals_until_an_answer_comes(pauses: list[float]) -> None:
    assert await patience().ask(answers(*[Refusal(reason="HTTP 503")] * 3, "yes")) == "yes"
    assert len(pauses) == 3
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses))


@on_a_loop
async def test_not_for_ever(pauses: list[float]) -> None:
    found = await patience().ask(answers(*[Refusal(reason="HTTP 503")] * 5))
    assert found == Failure(reason="HTTP 503 (asked 4 times)")
    assert len(pauses) == 3
    found = await patience(max_attempts=1).ask(answers(Refusal(reason="HTTP 503")))
    assert found == Failure(reason="HTTP 503 (asked once)")


@on_a_loop
async def test_a_failure_is_an_answer(pauses: list[float]) -> None:
    assert await patience().ask(answers(Failure(reason="HTTP 400"))) == Failure(reason="HTTP 400")
    assert not pauses


@on_a_loop
async def test_what_the_server_asks_for_holds_for_all(pauses: list[float]) -> None:
    shared = patience()
    began = time.monotonic()
    first = asyncio.create_task(shared.ask(answers(Refusal(reason="HTTP 429", wait_s=1.0), "first")))
    while shared._not_before == 0:  # until the first was told
        await asyncio.tasks.sleep(0)
    assert await shared.ask(answers("second")) == "second"
    assert time.monotonic() - began >= 0.99
    assert await first == "first"
    assert pauses[0] == pytest.approx(1.0, abs=0.1)


@on_a_loop
async def test_a_server_that_asks_for_no_pause_at_all(pauses: list[float]) -> None:
    assert await patience().ask(answers(*[Refusal(reason="HTTP 429", wait_s=0.0)] * 3, "yes")) == "yes"
    assert len(pauses) == 3
    assert all(pause >= 0.25 for pause in pauses)


@on_a_loop
async def test_a_server_that_answers_a_few_requests_a_second(pauses: list[float]) -> None:
    """It gives one token every 50 ms and refuses whoever comes without; nobody is refused too often."""
    last, refused = 0.0, 0

    async def attempt() -> str | Refusal:
        nonlocal last, refused
        if time.monotonic() - last < 0.05:
            refused += 1
            return Refusal(reason="HTTP 429", wait_s=0.05, is_too_many=True)
        last = time.monotonic()
        return "yes"

    shared = patience(concurrency=16, max_attempts=6)
    assert await asyncio.gather(*(shared.ask(attempt) for _ in range(20))) == ["yes"] * 20
    assert refused < 60


@on_a_loop
async def test_a_long_pause_is_not_made(pauses: list[float]) -> None:
    found = await patience().ask(answers(Refusal(reason="HTTP 429: quota", wait_s=3600)))
    assert found == Failure(reason="HTTP 429: quota (it asks for a pause of 3600 s)")
    assert not pauses


@on_a_loop
async def test_the_deadline_is_of_all_attempts_together() -> None:
    async def slow() -> Any:
        await asyncio.tasks.sleep(0.3)
        return Refusal(reason="HTTP 500")

    found = await patience(timeout_s=0.5).ask(slow)
    assert found == Failure(reason="no answer in 0.5 s (before that: HTTP 500)")


@on_a_loop
async def test_no_answer_at_all() -> None:
    async def silent() -> Any:
        await asyncio.Event().wait()

    assert await patience(timeout_s=0.05).ask(silent) == Failure(reason="no answer in 0.05 s")
