import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loops import on_a_loop
from openai_upstream import Raw, Upstream, openai_upstream, said

from genai.config.eval import PriceConfig, TargetConfig
from genai.errors import GenaiError, StoppedError, UsageError
from genai.evaluation import running
from genai.evaluation.records import Answer, Chat, Example, Failure, Outcome, Question, Usage
from genai.evaluation.running import collect
from genai.evaluation.stopping import Stop
from genai.evaluation.store import AnswerStore, key_of, open_store
from genai.evaluation.targets import retrying
from genai.evaluation.targets.endpoint import EndpointTarget
from genai.log import set_progress_factory


class Shouting:
    """A target in this process: says the prompt in capitals, after a moment."""

    name = "shouting"
    concurrency = 4

    def __init__(self, *, fingerprint: str | None = "f", answer: Callable[[str], Outcome] | None = None) -> None:
        self.fingerprint = fingerprint
        self.asked: list[str] = []
        self.opened = self.at_once = self.most_at_once = 0
        self.release: asyncio.Event | None = None
        """Where there is one, answers wait for it."""
        self._answer = answer or (lambda text: Answer(text=text.upper(), usage=Usage(latency_s=0.5, usd=0.1)))

    async def __aenter__(self) -> "Shouting":
        self.opened += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        self.opened -= 1

    async def ask(self, question: Question) -> Outcome:
        assert self.opened == 1
        assert isinstance(question, Chat) and question.prompt is not None
        self.asked.append(question.prompt)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await (self.release.wait() if self.release else asyncio.sleep(0.001 * (len(self.asked) % 3)))
        self.at_once -= 1
        return self._answer(question.prompt)


def examples(*prompts: str) -> list[Example]:
    return [
        Example(id=str(place), dataset="faq", kind="generation", question=Chat(prompt=prompt))
        for place, prompt in enumerate(prompts)
    ]


def words(count: int) -> list[Example]:
    return examples(*(f"word{number}" for number in range(count)))


def texts(outcomes: list[Outcome]) -> list[str]:
    return [outcome.text if isinstance(outcome, Answer) else "-" for outcome in outcomes]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with open_store(tmp_path / "answers.sqlite") as opened:
        yield opened


@pytest.fixture
def bars() -> Iterator[list[tuple[str, float | None, float, dict[str, str]]]]:
    """What progress bars were told: description, total, completed, fields."""
    told: list[tuple[str, float | None, float, dict[str, str]]] = []

    class Bar:
        def __init__(self, description: str, total: float | None) -> None:
            self._head = (description, total)

        def update(self, completed: float, **fields: str) -> None:
            told.append((*self._head, completed, fields))

        def close(self) -> None:
            pass

    set_progress_factory(Bar)
    yield told
    from genai.log import LineProgress

    set_progress_factory(LineProgress)


# --- asking -----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_outcomes_come_in_the_order_of_the_examples(bars: list[Any]) -> None:
    target = Shouting()
    told: list[str] = []
    found = await collect(target, words(23), on_outcome=lambda example, outcome: told.append(example.id))
    assert texts(found) == [f"WORD{number}" for number in range(23)]
    assert target.most_at_once == 4
    assert target.opened == 0
    assert sorted(told, key=int) == [str(number) for number in range(23)]
    assert bars[0] == ("asking shouting", 23, 0, {})
    assert bars[-1] == ("asking shouting", 23, 23, {"cost": "$2.3000"})


@on_a_loop
async def test_nothing_to_ask() -> None:
    target = Shouting()
    assert await collect(target, []) == []
    assert not target.asked


@on_a_loop
async def test_failures_are_outcomes(store: AnswerStore, bars: list[Any]) -> None:
    def answer(text: str) -> Outcome:
        return Failure(reason="HTTP 400") if text in ("word1", "word2") else Answer(text=text)

    target = Shouting(answer=answer)
    found = await collect(target, words(4), store=store, max_failures=2)
    assert found[1] == Failure(reason="HTTP 400")
    assert texts(found) == ["word0", "-", "-", "word3"]
    assert bars[-1][2:] == (4, {"failed": "2"})
    await collect(target, words(4), store=store)
    assert target.asked[4:] == ["word1", "word2"]


@on_a_loop
async def test_too_many_failures() -> None:
    target = Shouting(answer=lambda text: Failure(reason="HTTP 500"))
    with pytest.raises(GenaiError, match=r"no answer to 6 of 100 examples, .* allows; 6 times: HTTP 500"):
        await collect(target, words(100), max_failures=5)
    assert len(target.asked) < 20
    assert target.opened == 0


@on_a_loop
async def test_what_concerns_all_questions_ends_it(store: AnswerStore) -> None:
    def answer(text: str) -> Outcome:
        if text == "word5":
            raise UsageError("no such model")
        return Answer(text=text)

    target = Shouting(answer=answer)
    with pytest.raises(UsageError, match="no such model"):
        await collect(target, words(100), store=store)
    assert len(target.asked) < 20
    assert target.opened == 0


@on_a_loop
async def test_an_asker_who_gives_up() -> None:
    target = Shouting()
    target.release = asyncio.Event()
    before = asyncio.all_tasks()
    task = asyncio.create_task(collect(target, words(9)))
    while target.at_once < 4:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert target.opened == 0
    assert asyncio.all_tasks() == before


# --- what is kept -----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_answers_of_an_earlier_run(store: AnswerStore, bars: list[Any]) -> None:
    await collect(Shouting(), words(5), store=store)
    target = Shouting()
    told: list[str] = []
    found = await collect(target, words(7), store=store, on_outcome=lambda example, _: told.append(example.id))
    assert target.asked == ["word5", "word6"]
    assert texts(found) == [f"WORD{number}" for number in range(7)]
    assert [outcome.cached for outcome in found if isinstance(outcome, Answer)] == [True] * 5 + [False] * 2
    assert [outcome.usage.latency_s for outcome in found] == [None] * 5 + [0.5] * 2
    assert sorted(told) == list("0123456")
    assert bars[-1][2:] == (7, {"cost": "$0.2000"})


@on_a_loop
async def test_a_target_is_not_opened_for_nothing(store: AnswerStore) -> None:
    await collect(Shouting(), words(3), store=store)

    class Closed(Shouting):
        async def __aenter__(self) -> "Shouting":
            raise AssertionError("it loads for minutes")

    assert texts(await collect(Closed(), words(3), store=store)) == ["WORD0", "WORD1", "WORD2"]


@on_a_loop
async def test_without_a_fingerprint(store: AnswerStore) -> None:
    target = Shouting(fingerprint=None)
    await collect(target, words(3), store=store)
    await collect(target, words(3), store=store, kept_as="run 1")
    assert len(target.asked) == 6
    found = await collect(target, words(3), store=store, kept_as="run 1")
    assert len(target.asked) == 6
    assert [outcome.usage.latency_s for outcome in found] == [0.5] * 3  # measured in this very run
    await collect(target, words(3), store=store, kept_as="run 2")
    assert len(target.asked) == 9


@on_a_loop
async def test_equal_questions_are_asked_once(store: AnswerStore) -> None:
    target = Shouting()
    found = await collect(target, examples("a", "b", "a", "a"), store=store)
    assert sorted(target.asked) == ["a", "b"]
    assert texts(found) == ["A", "B", "A", "A"]
    assert [outcome.cached for outcome in found if isinstance(outcome, Answer)] == [False, False, True, True]
    assert [outcome.usage.latency_s for outcome in found] == [0.5, 0.5, None, None]
    await collect(Shouting(fingerprint=None), examples("a", "a"))


@on_a_loop
async def test_nobody_is_told_before_an_answer_is_kept(store: AnswerStore) -> None:
    missing = []

    def told(example: Example, outcome: Outcome) -> None:
        if not store.get([key_of("f", example.question)]):
            missing.append(example.id)

    await collect(Shouting(), words(30), store=store, on_outcome=told)
    assert not missing


@on_a_loop
async def test_a_disk_that_is_full_ends_it(store: AnswerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(writes: Any) -> None:
        for write in writes:
            write.done.set_exception(GenaiError("the disk is full"))

    monkeypatch.setattr(store, "_write", full)
    target = Shouting()
    with pytest.raises(GenaiError, match="the disk is full"):
        await collect(target, words(100), store=store)
    assert len(target.asked) < 20


# --- money ------------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_limit_on_cost(store: AnswerStore) -> None:
    target = Shouting()
    with pytest.raises(
        GenaiError, match=r"cost \$1\.\d000 for 1\d of 50 examples, and \$1.05 was allowed \(raise max_usd"
    ):
        await collect(target, words(50), store=store, max_usd=1.05)
    asked = len(target.asked)
    assert 11 <= asked <= 15
    kept = store.get([key_of("f", example.question) for example in words(50)])
    assert len(kept) == asked  # those that were under way are there as well
    assert len(await collect(target, words(asked), store=store, max_usd=0.01)) == asked


@on_a_loop
async def test_a_limit_that_is_just_kept() -> None:
    assert len(await collect(Shouting(), words(4), max_usd=0.5)) == 4


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(store: AnswerStore, number: signal.Signals) -> None:
    target = Shouting()
    before = signal.getsignal(number)

    def told(example: Example, outcome: Outcome) -> None:
        if example.id == "9":
            os.kill(os.getpid(), number)

    with pytest.raises(StoppedError, match="asking shouting was stopped") as caught:
        asyncio.run(collect(target, words(100), store=store, on_outcome=told))
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert 10 <= len(target.asked) < 30
    kept = store.get([key_of("f", example.question) for example in words(100)])
    assert len(kept) == len(target.asked)  # answers under way were waited for
    assert target.opened == 0


@on_a_loop
async def test_answers_that_take_too_long_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE_S", 0.05)
    target, stop = Shouting(), Stop()
    target.release = asyncio.Event()
    task = asyncio.create_task(collect(target, words(9), stop=stop))
    while target.at_once < 4:
        await asyncio.sleep(0)
    stop.ask()
    with pytest.raises(StoppedError):
        await task
    assert len(target.asked) == 4


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setattr(retrying, "FIRST_PAUSE_S", 0.01)
    with openai_upstream() as state:
        state.answer = lambda body: said(body["messages"][0]["content"].upper())
        yield state


def endpoint(upstream: Upstream, **values: Any) -> EndpointTarget:
    price = PriceConfig(usd_per_million_output_tokens=1000.0)
    config = TargetConfig(**{"endpoint": upstream.url, "model": "m", "price": price, **values})
    return EndpointTarget("it", config)


@on_a_loop
async def test_an_endpoint_is_kept_busy(upstream: Upstream, store: AnswerStore) -> None:
    upstream.delay_s = 0.01
    upstream.planned = [Raw(503), Raw(429, headers={"Retry-After": "0.02"}), Raw(0)]
    found = await collect(endpoint(upstream, concurrency=5), words(40), store=store, kept_as="run")
    assert texts(found) == [f"WORD{number}" for number in range(40)]
    assert upstream.most_at_once == 5
    assert len(upstream.requests) == 43
    assert sum(outcome.usage.usd or 0 for outcome in found) == pytest.approx(40 * 0.004)


_ASKER = """
import asyncio, sys
from pathlib import Path
from genai.config.eval import TargetConfig
from genai.evaluation.records import Chat, Example
from genai.evaluation.running import collect
from genai.evaluation.store import open_store
from genai.evaluation.targets.endpoint import EndpointTarget
url, path = sys.argv[1:]
target = EndpointTarget("it", TargetConfig(endpoint=url, model="m", concurrency=4))
examples = [
    Example(id=str(n), dataset="faq", kind="generation", question=Chat(prompt=f"word{n}")) for n in range(60)
]
with open_store(Path(path)) as store:
    told = lambda *_: print(1, flush=True)
    found = asyncio.run(collect(target, examples, store=store, kept_as="run", on_outcome=told))
print(*(outcome.text for outcome in found))
"""


@pytest.mark.integration
def test_a_kill_loses_no_answer_but_those_under_way(upstream: Upstream, tmp_path: Path) -> None:
    upstream.delay_s = 0.02
    command = [sys.executable, "-c", _ASKER, upstream.url, str(tmp_path / "answers.sqlite")]
    for number in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(20 + 15 * number):
            assert process.stdout.readline() == "1\n"
        process.kill()
        process.communicate()
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert last.stdout.split("\n")[-2].split() == [f"WORD{number}" for number in range(60)]
    # Of each kill at most the four requests under way, and the four whose answers were being written, are made again.
    assert 60 <= len(upstream.requests) <= 60 + 2 * 8
