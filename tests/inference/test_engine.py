"""The engine's loop, over a toy model whose answers depend on every token that its cache was given."""

import random
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_engine import (
    BOMB,
    DEADLINE_S,
    END,
    NUM_TOKENS,
    POISON,
    Answers,
    ToyRunner,
    ask,
    expected_answer,
    start_toy,
    write_tokenizer,
)

from genai.inference.engine import LocalEngine
from genai.inference.engine_loop import CRASHES_TO_FAIL
from genai.models.generation import Event, Grammar

Start = Callable[..., LocalEngine]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def runner() -> Iterator[ToyRunner]:
    made = ToyRunner()
    yield made
    made.gate.set()


@pytest.fixture
def start(tokenizer_file: Path, answers: Answers, runner: ToyRunner) -> Iterator[Start]:
    engines: list[LocalEngine] = []

    def started(**settings: Any) -> LocalEngine:
        engines.append(start_toy(tokenizer_file, answers, runner, **settings))
        return engines[-1]

    yield started
    runner.gate.set()
    for engine in engines:
        engine.close()


def _hold(engine: LocalEngine, runner: ToyRunner, request_id: str = "held", **changes: Any) -> None:
    """Have the model hang in a step, until its gate is opened."""
    runner.gate.clear()
    runner.entered.clear()
    engine.submit(ask(request_id, **changes))
    assert runner.entered.wait(DEADLINE_S)


def _wait_for(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.002)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer(start: Start, answers: Answers) -> None:
    engine = start()
    engine.submit(ask("a", "hello"))
    events = answers.wait("a")
    expected = expected_answer(b"hello", 8)
    assert answers.tokens("a") == expected
    assert answers.text("a") == bytes(expected).decode()
    last = events[-1]
    assert (last.finish_reason, last.stop_reason, last.fault) == ("length", None, None)
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.cached_tokens) == (5, 8, 0)
    assert all(event.usage is None for event in events[:-1])


@pytest.mark.parametrize("seed", range(6))
def test_answers_are_the_same_in_any_company(start: Start, answers: Answers, runner: ToyRunner, seed: int) -> None:
    """More requests than slots, shared beginnings, pieces of prompts, too few blocks, and some that give up."""
    luck = random.Random(seed)
    runner.ends = True
    engine = start(
        max_num_seqs=luck.choice([2, 4, 8]),
        max_num_batched_tokens=luck.choice([4, 16, 64]),
        block_size=luck.choice([1, 4, 16]),
        kv_cache="2kb",  # 256 tokens
        prefix_caching=luck.random() < 0.7,
    )
    beginnings = [bytes(luck.choices(range(97, 123), k=luck.randrange(40))) for _ in range(3)]
    requests = {}
    for number in range(24):
        prompt = luck.choice(beginnings) + bytes(luck.choices(range(97, 123), k=luck.randrange(1, 20)))
        request = ask(str(number), prompt, max_tokens=luck.randrange(1, 60), client=luck.choice("xyz"))
        requests[request.id] = request
        engine.submit(request)
        if luck.random() < 0.2:
            time.sleep(0.002)
    given_up = set(luck.sample(sorted(requests), 3))
    engine.abort(given_up)
    for request in requests.values():
        expected = expected_answer(request.prompt_ids, request.sampling.max_tokens, ends=True)
        tokens, last = answers.tokens(request.id), answers.last(request.id)
        if request.id in given_up and last.finish_reason == "abort":
            assert tokens == expected[: len(tokens)]
            continue
        assert tokens == expected
        assert last.finish_reason == ("stop" if expected[-1] == END else "length")
    _wait_for(lambda: engine.num_open == 0)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.kv_usage, stats.crashes) == (0, 0, 0, 0)


def test_the_models_own_end(start: Start, answers: Answers, runner: ToyRunner) -> None:
    runner.ends = True
    engine = start()
    prompt = next(
        p for p in (f"p{number}" for number in range(99)) if 2 < len(expected_answer(p.encode(), 50, ends=True)) < 9
    )
    expected = expected_answer(prompt.encode(), 50, ends=True)
    engine.submit(ask("a", prompt, max_tokens=50))
    last = answers.last("a")
    assert answers.tokens("a") == expected
    assert answers.text("a") == bytes(expected[:-1]).decode(), "the end is no text"
    assert (last.finish_reason, last.stop_reason) == ("stop", None)
    engine.submit(ask("b", prompt, max_tokens=50, ignore_eos=True))
    assert len(answers.tokens("b")) == 50
    assert answers.last("b").finish_reason == "length"
    engine.submit(ask("c", prompt, max_tokens=50, min_tokens=len(expected)))
    assert answers.tokens("c")[: len(expected) - 1] == expected[:-1]
    assert len(answers.tokens("c")) > len(expected)


def test_stop_texts_and_tokens(start: Start, answers: Answers) -> None:
    engine = start()
    expected = expected_answer(b"hello", 8)
    text = bytes(expected).decode()
    engine.submit(ask("text", stop=(text[3:6],)))
    engine.submit(ask("token", stop_token_ids=(expected[4],)))
    assert answers.text("text") == text[: text.index(text[3:6])]
    assert answers.last("text").finish_reason == "stop"
    assert answers.last("text").stop_reason == text[3:6]
    assert answers.last("token").stop_reason == expected[4]
    place = expected.index(expected[4])
    assert answers.tokens("token") == expected[: place + 1]
    assert answers.text("token") == text[:place]


def test_held_back_text_comes_in_the_end(start: Start, answers: Answers) -> None:
    engine = start()
    text = bytes(expected_answer(b"hello", 8)).decode()
    engine.submit(ask("a", stop=(text[-2:] + "never",)))
    assert answers.text("a") == text
    assert answers.last("a").text == text[-2:]


# --- log-probabilities ------------------------------------------------------------------------------------------------


def test_logprobs(start: Start, answers: Answers) -> None:
    engine = start()
    engine.submit(ask("a", logprobs=2, max_tokens=3))
    for event in answers.wait("a"):
        (told,) = event.logprobs
        assert [told.token_id] == event.token_ids
        assert told.rank == 1
        assert told.logprob == pytest.approx(0, abs=1e-4)
        assert (told.text, told.data) == (event.text, event.text.encode())
        assert [top.rank for top in told.top] == [1, 2]
        assert told.top[0].token_id == told.token_id
        assert all(top.top == () for top in told.top)


@pytest.mark.parametrize("max_tokens", [0, 2])
@pytest.mark.parametrize("length", [1, 4, 5, 100])
def test_prompt_logprobs_in_one_event(start: Start, answers: Answers, max_tokens: int, length: int) -> None:
    engine = start()
    prompt = list(b"abcdefghijklmno" * 8)[:length]
    prompt += expected_answer(prompt, 1)
    engine.submit(ask("before", prompt))  # what it leaves in the cache must not be used
    answers.wait("before")
    engine.submit(ask("a", prompt, prompt_logprobs=1, max_tokens=max_tokens))
    events = answers.wait("a")
    told = events[0].prompt_logprobs
    assert all(not event.prompt_logprobs for event in events[1:])
    assert len(told) == len(prompt)
    assert told[0] is None
    assert [each.token_id for each in told[1:] if each] == prompt[1:]
    last = told[-1]
    assert last is not None
    assert last.rank == 1
    assert answers.tokens("a") == expected_answer(prompt, max_tokens)
    assert events[-1].finish_reason == "length"
    assert events[-1].usage is not None
    assert events[-1].usage.cached_tokens == 0


def test_nothing_but_the_prompt(start: Start, answers: Answers) -> None:
    engine = start()
    engine.submit(ask("a", max_tokens=0))
    assert answers.tokens("a") == []
    assert answers.last("a").finish_reason == "length"


def test_cached_tokens_are_told(start: Start, answers: Answers) -> None:
    engine = start(block_size=4)
    engine.submit(ask("a", "0123456789"))
    answers.wait("a")
    engine.submit(ask("b", "0123456789"))
    usage = answers.last("b").usage
    assert usage is not None
    assert usage.cached_tokens == 8
    assert engine.stats().prefix_hits == 8
    assert engine.stats().prefix_queries == 20
    assert engine.stats().prompt_tokens == 20
    assert engine.stats().generation_tokens == 16
    times = engine.take_queue_times()
    assert len(times) == 2
    assert all(0 <= each < 60 for each in times)
    assert engine.take_queue_times() == []


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "changes", "code", "message"),
    [
        ("", {}, "invalid", "empty"),
        ([NUM_TOKENS], {}, "invalid", f"token {NUM_TOKENS}"),
        ([-1], {}, "invalid", "token -1"),
        ("x" * 250, {"max_tokens": 7}, "too_long", "250 tokens and max_tokens is 7, .* 256"),
        ("x" * 257, {"max_tokens": 0}, "too_long", "257"),
        ("x", {"temperature": -1.0}, "invalid", "temperature"),
        ("x", {"logit_bias": {NUM_TOKENS: 1.0}}, "invalid", "logit_bias"),
        ("x", {"adapter": "nobody"}, "not_found", "nobody"),
        ("x", {"grammar": Grammar(kind="regex", text="(")}, "invalid", ""),
    ],
)
def test_what_cannot_be_carried_out(
    start: Start, answers: Answers, prompt: Any, changes: dict[str, Any], code: str, message: str
) -> None:
    engine = start()
    engine.submit(ask("bad", prompt, **changes))
    engine.submit(ask("good"))
    (event,) = answers.wait("bad")
    assert event.finish_reason == "error"
    assert event.fault is not None
    assert event.fault.code == code
    assert re.search(message, event.fault.message)
    assert answers.tokens("good") == expected_answer(b"hello", 8)


def test_as_long_as_the_model_reads(start: Start, answers: Answers) -> None:
    engine = start()
    engine.submit(ask("a", "x" * 250, max_tokens=6))
    assert answers.tokens("a") == expected_answer(b"x" * 250, 6)


def test_more_than_may_wait(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start(max_num_seqs=1, max_waiting=2)
    _hold(engine, runner)
    for name in "abc":
        engine.submit(ask(name))
    engine.submit(ask("grammar", grammar=Grammar(kind="regex", text="a")))
    runner.gate.set()
    for name in ("c", "grammar"):
        fault = answers.last(name).fault
        assert fault is not None
        assert fault.code == "overloaded"
    assert answers.tokens("b") == expected_answer(b"hello", 8)


def test_an_id_twice(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start()
    _hold(engine, runner, "a", max_tokens=3)
    other: list[Event] = []
    engine._emit = lambda events: other.extend(events)  # type: ignore[method-assign]
    engine.submit(ask("a"))
    runner.gate.set()
    _wait_for(lambda: engine.num_open == 0)
    assert [event.fault.code for event in other if event.fault] == ["invalid"]


# --- giving up --------------------------------------------------------------------------------------------------------


def test_abort_while_it_is_read_and_while_it_waits(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start(max_num_seqs=1)
    runner.delay_s = 0.001
    engine.submit(ask("read", max_tokens=200))
    engine.submit(ask("waits"))
    _wait_for(lambda: len(answers.so_far("read")) > 2)
    engine.abort(["waits", "read", "nobody"])
    for name in ("read", "waits"):
        last = answers.last(name)
        assert (last.finish_reason, last.fault) == ("abort", None)
        assert last.usage is not None
        assert last.usage.completion_tokens == len(answers.tokens(name))
    assert 2 < len(answers.tokens("read")) < 200
    engine.abort(["read"])
    engine.submit(ask("next"))
    assert answers.tokens("next") == expected_answer(b"hello", 8)
    assert engine.stats().kv_usage == 0


def test_time_is_over(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start(max_num_seqs=1)
    runner.delay_s = 0.002
    engine.submit(ask("read", max_tokens=240, timeout_s=0.05))
    engine.submit(ask("waits", timeout_s=0.02))
    engine.submit(ask("patient", timeout_s=60.0))
    for name in ("read", "waits"):
        last = answers.last(name)
        assert last.finish_reason == "abort"
        assert last.fault is not None
        assert last.fault.code == "timeout"
    assert 0 < len(answers.tokens("read")) < 240
    assert answers.last("patient").fault is None


def test_time_is_over_while_a_grammar_is_compiled(
    start: Start, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genai.inference.constraints import GrammarCompiler

    go_on = threading.Event()
    monkeypatch.setattr(GrammarCompiler, "compile", lambda *_, **__: go_on.wait(DEADLINE_S))
    engine = start()
    engine.submit(ask("a", grammar=Grammar(kind="regex", text="a"), timeout_s=0.05))
    engine.submit(ask("b", grammar=Grammar(kind="regex", text="a")))
    engine.submit(ask("free"))
    answers.wait("free")
    fault = answers.last("a").fault
    assert fault is not None
    assert fault.code == "timeout"
    assert engine.stats().waiting == 1
    engine.abort(["b"])
    assert answers.last("b").finish_reason == "abort"
    go_on.set()


# --- grammars ---------------------------------------------------------------------------------------------------------


def test_an_answer_keeps_to_its_grammar(start: Start, answers: Answers) -> None:
    engine = start()
    engine.submit(ask("a", grammar=Grammar(kind="regex", text="[0-9]{3}x"), max_tokens=20))
    engine.submit(ask("cut", grammar=Grammar(kind="regex", text="[0-9]{3}x"), max_tokens=2))
    engine.submit(ask("free"))
    assert answers.text("a")[3] == "x"
    assert answers.text("a")[:3].isdigit()
    assert answers.last("a").finish_reason == "stop"
    assert answers.last("a").stop_reason is None
    assert answers.last("cut").finish_reason == "length"
    assert answers.tokens("free") == expected_answer(b"hello", 8)


# --- faults of ours ---------------------------------------------------------------------------------------------------


def test_no_number_fails_one_answer_alone(start: Start, answers: Answers) -> None:
    engine = start(block_size=4)
    engine.submit(ask("good", "before"))
    engine.submit(ask("bad", [*b"abcdefgh", POISON, *b"abcdefgh"]))
    engine.submit(ask("told", [*b"xbcdefgh", POISON, *b"abcdefgh"], prompt_logprobs=0))
    engine.submit(ask("too", "behind"))
    for name in ("bad", "told"):
        last = answers.last(name)
        assert last.finish_reason == "error"
        assert last.fault is not None
        assert last.fault.code == "failed"
    assert answers.tokens("good") == expected_answer(b"before", 8)
    assert answers.tokens("too") == expected_answer(b"behind", 8)
    assert engine.stats().crashes == 0


def test_a_crash_ends_the_step_and_nothing_else(
    start: Start, answers: Answers, runner: ToyRunner, caplog: pytest.LogCaptureFixture
) -> None:
    engine = start(max_num_seqs=2)
    _hold(engine, runner)
    engine.submit(ask("bomb", [97, 98, BOMB]))
    for name in "abc":
        engine.submit(ask(name))
    runner.gate.set()
    last = answers.last("bomb")
    assert last.finish_reason == "error"
    assert last.fault is not None
    assert last.fault.code == "failed"
    assert "RuntimeError" in last.fault.message
    assert "exploded" not in last.fault.message
    for name in "abc":
        assert answers.tokens(name) == expected_answer(b"hello", 8)
    assert engine.stats().crashes == 1
    assert engine.failed is None


def test_what_was_not_in_the_step_is_read_again(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start(max_num_seqs=4, max_num_batched_tokens=2, prefix_caching=False)
    engine.submit(ask("long", b"l" * 60, max_tokens=4))
    engine.submit(ask("bomb", [97, 98, 99, BOMB]))
    engine.submit(ask("after", b"l" * 30, max_tokens=4))
    assert answers.last("bomb").fault is not None
    assert answers.tokens("after") == expected_answer(b"l" * 30, 4)
    long = answers.last("long")
    assert long.fault is not None or answers.tokens("long") == expected_answer(b"l" * 60, 4)


def test_out_of_memory_is_a_crash(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start()
    runner.fault = MemoryError()
    engine.submit(ask("a"))
    assert answers.last("a").fault is not None
    runner.fault = None
    engine.submit(ask("b"))
    assert answers.tokens("b") == expected_answer(b"hello", 8)


def test_an_engine_that_only_crashes_gives_up(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start(max_num_seqs=1)
    _hold(engine, runner)
    runner.fault = RuntimeError("broken for good")
    names = [str(number) for number in range(CRASHES_TO_FAIL + 2)]
    for name in names:
        engine.submit(ask(name))
    runner.gate.set()
    codes = [fault.code for name in ["held", *names] if (fault := answers.last(name).fault)]
    assert codes == ["failed"] * (CRASHES_TO_FAIL - 1) + ["not_loaded"] * (len(names) + 2 - CRASHES_TO_FAIL)
    assert engine.failed is not None
    assert "toy" in engine.failed
    engine.submit(ask("late"))
    fault = answers.last("late").fault
    assert fault is not None
    assert fault.code == "not_loaded"


def test_a_good_step_forgives(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start()
    for number in range(CRASHES_TO_FAIL + 2):
        engine.submit(ask(f"bomb{number}", [BOMB]))
        assert answers.last(f"bomb{number}").fault is not None
        engine.submit(ask(f"good{number}"))
        assert answers.last(f"good{number}").fault is None
    assert engine.failed is None


# --- idle, drain, close -----------------------------------------------------------------------------------------------


def test_an_idle_engine_costs_nothing(start: Start, answers: Answers) -> None:
    engine = start()
    engine.submit(ask("a", timeout_s=100.0))
    answers.wait("a")
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


def test_drain_lets_answers_end_and_takes_no_more(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start()
    _hold(engine, runner)
    assert engine.num_open == 1
    assert not engine.drain(0.01)
    engine.submit(ask("late"))
    runner.gate.set()
    assert engine.drain(DEADLINE_S)
    assert engine.num_open == 0
    assert answers.tokens("held") == expected_answer(b"hello", 8)
    fault = answers.last("late").fault
    assert fault is not None
    assert fault.code == "not_loaded"


def test_close_answers_everything(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start(max_num_seqs=1)
    _hold(engine, runner, max_tokens=100)
    engine.submit(ask("waits"))
    closing = threading.Thread(target=engine.close)
    closing.start()
    runner.gate.set()
    closing.join(DEADLINE_S)
    for name in ("held", "waits"):
        last = answers.last(name)
        assert last.finish_reason == "error"
        assert last.fault is not None
        assert last.fault.code == "not_loaded"
    engine.submit(ask("late"))
    assert answers.last("late").finish_reason == "error"
    assert engine.num_open == 0
    assert runner.is_closed
    engine.close()


def test_clients_take_turns(start: Start, answers: Answers, runner: ToyRunner) -> None:
    engine = start(max_num_seqs=1, prefix_caching=False)
    _hold(engine, runner)
    for number in range(6):
        engine.submit(ask(f"greedy{number}", client="greedy"))
    engine.submit(ask("modest", client="modest"))
    runner.gate.set()
    ends = []
    for name in [*(f"greedy{number}" for number in range(6)), "modest"]:
        answers.wait(name)
    for events in answers.batches:
        ends += [event.id for event in events if event.finish_reason]
    assert ends.index("modest") <= 2


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("num_seqs", [1, 8, 32])
def test_what_a_step_costs_beside_model_and_sampler(
    start: Start, answers: Answers, runner: ToyRunner, monkeypatch: pytest.MonkeyPatch, num_seqs: int
) -> None:
    from genai.inference.sampling import Sampler

    sampler = 0.0
    costs: list[float] = []
    choose = Sampler.choose

    def timed(*arguments: Any) -> Any:
        nonlocal sampler
        begun = time.thread_time()
        try:
            return choose(*arguments)
        finally:
            sampler += time.thread_time() - begun

    monkeypatch.setattr(Sampler, "choose", timed)
    engine = start(max_num_seqs=num_seqs, max_num_batched_tokens=512, block_size=16)
    step = engine._loop.turn

    def turn(commands: Any) -> bool:
        begun, elsewhere, num_steps = time.thread_time(), sampler + runner.seconds, len(runner.steps)
        is_busy = step(commands)
        if len(runner.steps) > num_steps:
            costs.append(time.thread_time() - begun - (sampler + runner.seconds - elsewhere))
        return is_busy

    engine._loop.turn = turn  # type: ignore[method-assign]
    for number in range(num_seqs):
        engine.submit(ask(str(number), f"{number:08}", max_tokens=200))
    for number in range(num_seqs):
        answers.wait(str(number))
    # The median: now and then a step pays for the garbage of all tests before it.
    per_step = statistics.median(costs)
    print(f"{num_seqs} sequences: {per_step * 1e6:.0f} us a step, {per_step * 1e6 / num_seqs:.1f} us a sequence")
    assert per_step < 2 * (100e-6 + 40e-6 * num_seqs), "twice what is wanted, because machines differ"
