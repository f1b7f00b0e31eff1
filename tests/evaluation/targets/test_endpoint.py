import asyncio
import logging
import socket
from typing import Any

import pytest
from loops import on_a_loop
from openai_upstream import Events, Raw, Upstream, said

from genai.config.eval import PriceConfig, SamplingConfig, TargetConfig
from genai.errors import CredentialsError, UsageError
from genai.evaluation.interfaces import Target
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Failure,
    Likelihood,
    Likelihoods,
    Outcome,
    Query,
    Question,
    Usage,
    WholeText,
)
from genai.evaluation.targets import retrying
from genai.evaluation.targets.endpoint import EndpointTarget

HELLO = Chat(messages=({"role": "user", "content": "Hello?"},))
PRICE = PriceConfig(usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=5.0)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_S", 0.01)


def target(upstream: Upstream, **values: Any) -> EndpointTarget:
    return EndpointTarget("it", TargetConfig(**{"endpoint": upstream.url, "model": "m", "timeout_s": 5.0, **values}))


async def ask(upstream: Upstream, question: Question = HELLO, **values: Any) -> Outcome:
    async with target(upstream, **values) as it:
        return await it.ask(question)


async def answer(upstream: Upstream, question: Question = HELLO, **values: Any) -> Answer:
    found = await ask(upstream, question, **values)
    assert isinstance(found, Answer), found
    return found


# --- what is sent -----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_chat(upstream: Upstream) -> None:
    found = await answer(upstream, system="Be brief.", price=PRICE)
    path, headers, body = upstream.requests[0]
    assert path == "/v1/chat/completions"
    assert "authorization" not in headers
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        "max_tokens": 256,
        "temperature": 0.0,
        "seed": 17,
    }
    assert found.text == "ok"
    assert found.finish_reason == "stop"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (10, 4)
    assert found.usage.usd == pytest.approx((10 * 1 + 4 * 5) / 1e6)
    assert found.usage.latency_s is not None and 0 < found.usage.latency_s < 5
    assert not found.cached


@on_a_loop
async def test_a_price_is_told_only_where_one_is_known(upstream: Upstream) -> None:
    assert (await answer(upstream)).usage.usd is None


@on_a_loop
async def test_sampling_tools_and_a_schema(upstream: Upstream) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    question = Chat(prompt="Hi", tools=(tool,), json_schema={"type": "object"}, max_tokens=5, stop=("END",))
    sampling = SamplingConfig(max_tokens=99, temperature=0.5, top_p=0.9, seed=3, stop=["x"])
    await answer(upstream, question, sampling=sampling, extra_body={"seed": None, "top_k": 4, "max_tokens": 6})
    assert upstream.bodies[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 6,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "tools": [tool],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        "top_k": 4,
    }


@on_a_loop
async def test_plain_text(upstream: Upstream) -> None:
    upstream.answer = lambda body: {"choices": [{"text": " ok", "finish_reason": "length"}]}
    turns = Chat(messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}))
    async with target(upstream, api="completions", system="S") as it:
        found = [await it.ask(question) for question in (HELLO, Chat(prompt="p"), turns)]
    assert upstream.requests[0][0] == "/v1/completions"
    prompts = [body["prompt"] for body in upstream.bodies]
    assert prompts == ["S\n\nHello?", "S\n\np", "S\n\nuser: a\nassistant: b\nassistant:"]
    assert [(each.text, each.finish_reason) for each in found if isinstance(each, Answer)] == [(" ok", "length")] * 3
    assert "messages" not in upstream.bodies[0]


@on_a_loop
async def test_tools_take_a_chat(upstream: Upstream) -> None:
    found = await ask(upstream, Chat(prompt="x", tools=({"type": "function"},)), api="completions")
    assert isinstance(found, Failure) and "api: chat" in found.reason
    assert not upstream.requests


@on_a_loop
async def test_half_a_character_can_be_sent(upstream: Upstream) -> None:
    await answer(upstream, Chat(prompt="ü\ud800"))
    assert upstream.bodies[0]["messages"][0]["content"] == "ü?"


# --- what comes back --------------------------------------------------------------------------------------------------


@on_a_loop
async def test_calls_and_contexts(upstream: Upstream) -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "2", "type": "function", "function": {"name": "g", "arguments": {"b": 2}}},
    ]
    upstream.planned = [
        said(None, tool_calls=calls),  # type: ignore[arg-type]
        said("x", contexts=["one", {"text": "two"}]),
        said("x") | {"contexts": ["three"], "error": None},
        said("x", context={"citations": [{"content": "four", "title": "t"}]}),
        said([{"type": "text", "text": "parts"}]),  # type: ignore[arg-type]
        said(None, refusal="No."),  # type: ignore[arg-type]
    ]
    async with target(upstream) as it:
        found = [await it.ask(HELLO) for _ in range(6)]
    answers = [each for each in found if isinstance(each, Answer)]
    assert answers[0].tool_calls == ({"name": "f", "arguments": '{"a": 1}'}, {"name": "g", "arguments": '{"b": 2}'})
    assert [each.contexts for each in answers[1:4]] == [("one", "two"), ("three",), ("four",)]
    assert [each.text for each in answers] == ["", "x", "x", "x", "parts", "No."]


@on_a_loop
async def test_a_stream(upstream: Upstream) -> None:
    deltas: list[dict[str, Any]] = [{"role": "assistant"}, {"content": "Guten"}, {"content": " Tag"}]
    deltas += [{"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": "{}"}}]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a"'}}]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}]
    events: list[dict[str, Any]] = [{"choices": [{"delta": delta}]} for delta in deltas]
    events += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}]
    events += [{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}]
    upstream.planned = [Events(events, pause_s=0.02)] * 2
    async with target(upstream, stream=True) as it:
        first, second = await it.ask(HELLO), await it.ask(HELLO)
    assert isinstance(first, Answer) and isinstance(second, Answer)
    assert upstream.bodies[0]["stream_options"] == {"include_usage": True}
    assert first.text == "Guten Tag"
    assert first.tool_calls == ({"name": "f", "arguments": '{"a": 1}'}, {"name": "g", "arguments": "{}"})
    assert first.finish_reason == "stop"
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (7, 2)
    assert first.usage.ttft_s is not None and first.usage.latency_s is not None
    assert 0.03 < first.usage.ttft_s < first.usage.latency_s - 0.05
    assert upstream.connections == 1  # it is used again


@on_a_loop
async def test_a_stream_of_plain_text_and_one_that_came_whole(upstream: Upstream) -> None:
    pieces = [{"choices": [{"text": "a"}]}, {"choices": [{"text": "b", "finish_reason": "stop"}]}]
    upstream.planned = [Events(pieces, is_done=False), {"choices": [{"text": "whole"}]}]
    async with target(upstream, stream=True, api="completions") as it:
        found = [await it.ask(HELLO), await it.ask(HELLO)]
    assert [each.text for each in found if isinstance(each, Answer)] == ["ab", "whole"]
    assert found[1].usage.ttft_s is None


@on_a_loop
async def test_a_long_event(upstream: Upstream) -> None:
    upstream.planned = [Events([{"choices": [{"delta": {"content": "x" * 500_000}}]}])]
    assert len((await answer(upstream, stream=True)).text) == 500_000


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Raw(content=b"<html>"), "the answer is no JSON"),
        ([1], "the answer has another form"),
        ({}, "the answer has another form"),
        ({"choices": []}, "the answer has another form"),
        ({"choices": [{"message": {"tool_calls": [{}]}}]}, "the answer has another form"),
        ({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}, "the answer has another"),
        ({"error": {"message": "out of memory"}}, "the server failed: out of memory"),
        ({"choices": [{"text": "half", "finish_reason": "error"}]}, "the server gave up (finish_reason error)"),
        (
            Events([{"choices": [{"delta": {"content": "x"}}]}, {"error": {"message": "boom"}}]),
            "the server failed: boo",
        ),
        (Events([]), "the answer has another form"),
        (Events(["x"]), "the answer has another form"),
        (Raw(content=b"data: {\n\n", headers={"Content-Type": "text/event-stream"}), "an event of the stream is no"),
        (Raw(400, b'{"error": {"message": "too\\nlong"}}'), "HTTP 400: too long"),
        (Raw(422, b'{"detail": [1]}'), "HTTP 422"),
    ],
)
def test_answers_that_are_none(upstream: Upstream, reply: Any, reason: str) -> None:
    upstream.planned = [reply]
    found = asyncio.run(ask(upstream))
    assert isinstance(found, Failure)
    assert found.reason.startswith(reason)
    assert len(upstream.requests) == 1


# --- patience ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Raw(429), Raw(500), Raw(503, headers={"Retry-After": "0.01"}), Raw(0)])
def test_a_busy_server_is_asked_again(upstream: Upstream, fault: Raw) -> None:
    upstream.planned = [fault] * 3
    assert asyncio.run(answer(upstream)).text == "ok"
    assert len(upstream.requests) == 4


@on_a_loop
async def test_a_stream_that_breaks_off_is_asked_for_again(upstream: Upstream) -> None:
    event = {"choices": [{"delta": {"content": "ha"}}]}
    broken = Raw(content=b"data: {}\n\n", headers={"Content-Type": "text/event-stream"})
    upstream.planned = [Events([event], is_done=False), broken]
    assert (await answer(upstream, stream=True)).text == "ok"
    assert len(upstream.requests) == 3


@on_a_loop
async def test_not_for_ever(upstream: Upstream) -> None:
    upstream.planned = [Raw(503, b'{"message": "full"}')] * 9
    assert await ask(upstream, max_attempts=3) == Failure(reason="HTTP 503: full (asked 3 times)")
    assert len(upstream.requests) == 3


@on_a_loop
async def test_a_server_that_hangs(upstream: Upstream) -> None:
    upstream.delay_s = 0.5
    assert await ask(upstream, timeout_s=0.1) == Failure(reason="no answer in 0.1 s")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nobody = Upstream(url=f"http://127.0.0.1:{port}")
    found = asyncio.run(ask(nobody, max_attempts=2))
    assert isinstance(found, Failure)
    assert "(asked 2 times)" in found.reason
    assert "connect" in found.reason.lower()


@on_a_loop
async def test_no_more_requests_than_wanted_and_waiting_is_no_latency(upstream: Upstream) -> None:
    upstream.delay_s = 0.1
    async with target(upstream, concurrency=3) as it:
        found = await asyncio.gather(*(it.ask(HELLO) for _ in range(12)))
    assert upstream.most_at_once == 3
    assert upstream.connections == 3
    assert all(each.usage.latency_s is not None and each.usage.latency_s < 0.35 for each in found)


# --- keys, and what concerns all questions ----------------------------------------------------------------------------


@on_a_loop
async def test_a_key_is_sent_and_never_shown(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    words = b'{"error": {"message": "Incorrect API key: s3cret"}}'
    upstream.planned = [Raw(429, words), Raw(400, words)]
    with caplog.at_level(logging.DEBUG):
        found = await ask(upstream, api_key="env:THE_KEY")
    assert upstream.requests[0][1]["authorization"] == "Bearer s3cret"
    assert found == Failure(reason="HTTP 400: Incorrect API key: ***")
    assert "HTTP 429: Incorrect API key: ***" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    upstream.planned = [Raw(status, b'{"error": {"message": "no: s3cret"}}')] * 2
    with pytest.raises(CredentialsError, match=r"^env:THE_KEY: .* refused the key: HTTP 40\d: no: \*\*\*"):
        asyncio.run(ask(upstream, api_key="env:THE_KEY"))
    with pytest.raises(CredentialsError, match=r"set target\.api_key: env:NAME"):
        asyncio.run(ask(upstream))


def test_a_key_that_is_missing(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(CredentialsError, match="THE_KEY is not set"):
        asyncio.run(ask(upstream, api_key="env:THE_KEY"))
    assert not upstream.requests


@on_a_loop
async def test_no_part_of_a_key_is_shown(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret\n")
    for length in range(290, 300):
        upstream.planned = [Raw(400, b'{"error": "' + b"x" * length + b's3cret"}')]
        found = await ask(upstream, api_key="env:THE_KEY")
        assert isinstance(found, Failure) and "s3" not in found.reason
    assert upstream.requests[0][1]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("key", ["  ", "two\nlines", "schlüssel"])
def test_keys_that_cannot_be_sent(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("THE_KEY", key)
    with pytest.raises(CredentialsError, match=r"^env:THE_KEY: this is no key"):
        asyncio.run(ask(upstream, api_key="env:THE_KEY"))


@pytest.mark.parametrize("status", [404, 405, 301, 307])
def test_nothing_is_served_there(upstream: Upstream, status: int) -> None:
    upstream.planned = [Raw(status, b'{"error": {"message": "no such model"}}', {"Location": f"{upstream.url}/other"})]
    with pytest.raises(UsageError, match=rf"does not serve this: HTTP {status}: no such model \(check target.endpoint"):
        asyncio.run(ask(upstream))
    assert len(upstream.requests) == 1


def test_an_endpoint_has_no_documents(upstream: Upstream) -> None:
    with pytest.raises(UsageError, match="answers no queries"):
        asyncio.run(ask(upstream, Query(text="x", k=3)))


@pytest.mark.parametrize(
    "url",
    ["ftp://host", "host/v1", "http://", "", "https://user:pass@", "http://host:port", "http://host:99999/v1"],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match=r"judges\.gpt\.endpoint: .* is no URL of a server"):
        EndpointTarget("x", TargetConfig(endpoint=url, model="m"), section="judges.gpt")


@pytest.mark.parametrize("url", ["http://me@host/v1", "http://me:word@host", "http://host/v1?key=abc"])
def test_urls_that_hold_a_key(url: str) -> None:
    with pytest.raises(UsageError, match=r"target\.endpoint: the URL of a server ends .* under api_key") as caught:
        EndpointTarget("x", TargetConfig(endpoint=url, model="m"))
    assert "word" not in str(caught.value) and "abc" not in str(caught.value)


def test_a_model_must_be_named() -> None:
    with pytest.raises(UsageError, match="needs the name of a model"):
        EndpointTarget("x", TargetConfig(endpoint="http://host"))


@on_a_loop
async def test_a_path_of_the_servers_own(upstream: Upstream) -> None:
    await answer(Upstream(url=f"{upstream.url}/openai/v3/"))
    assert upstream.requests[0][0] == "/openai/v3/chat/completions"


@on_a_loop
async def test_a_proxy_from_the_environment(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", upstream.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    await answer(Upstream(url="http://model.example"))
    assert upstream.requests[0][0] == "http://model.example/v1/chat/completions"


def test_what_answers_depend_on(upstream: Upstream) -> None:
    def fingerprint(**values: Any) -> str | None:
        it: Target = target(upstream, **values)
        return it.fingerprint

    assert fingerprint() is None
    known = fingerprint(reuse_answers=True)
    assert known == fingerprint(reuse_answers=True, concurrency=2, timeout_s=1.0, price=PRICE, api_key="env:OTHER")
    others = [{"model": "n"}, {"system": "S"}, {"api": "completions"}, {"extra_body": {"a": 1}}]
    others += [{"sampling": SamplingConfig(seed=2)}, {"endpoint": "http://other"}]
    assert len({known, *(fingerprint(reuse_answers=True, **other) for other in others)}) == 7


# --- likelihoods ------------------------------------------------------------------------------------------------------


def echo(body: Any, *, lead: str = "", extra: bool = False) -> dict[str, Any]:
    """As a server whose tokens are words with the space before them, each as likely as its length says."""
    choices = []
    for index, text in enumerate(body["prompt"]):
        words = text.replace(" ", "\n ").split("\n")
        tokens = ([lead] if lead else []) + words + (["!"] if extra else [])
        offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
        logprobs = [None, *(-float(len(token)) for token in tokens[1:])]
        tops = [None, *({token: -float(len(token)), "?": -4.0} for token in tokens[1:])]
        told = {"tokens": tokens, "text_offset": offsets, "token_logprobs": logprobs, "top_logprobs": tops}
        choices.append({"index": index, "text": text, "logprobs": told})
    return {"choices": choices[::-1], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}


@on_a_loop
async def test_continuations(upstream: Upstream) -> None:
    upstream.answer = echo
    pairs = (("The sky is", " blue"), ("The sky is ", "very grey"), ("The sky i", "s red"))
    found = await ask(upstream, Continuations(pairs=pairs), price=PRICE)
    assert isinstance(found, Likelihoods)
    assert upstream.requests[0][0] == "/v1/completions"
    assert upstream.bodies[0] == {
        "model": "m",
        "prompt": ["The sky is blue", "The sky is very grey", "The sky is red"],
        "max_tokens": 0,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }
    # " blue" is 5 long and less likely than "?"; of the third pair " is" crosses the border.
    assert found.each == (
        Likelihood(logprob=-5.0, num_tokens=1, is_greedy=False),
        Likelihood(logprob=-10.0, num_tokens=2, is_greedy=False),
        Likelihood(logprob=-7.0, num_tokens=2, is_greedy=True),
    )
    assert found.usage.prompt_tokens == 9
    assert found.usage.usd == pytest.approx(9e-6)
    assert found.usage.latency_s is not None


@on_a_loop
async def test_a_token_before_and_a_token_after_the_text(upstream: Upstream) -> None:
    upstream.answer = lambda body: echo(body, lead="<s>", extra=True)
    async with target(upstream) as it:
        pair = await it.ask(Continuations(pairs=(("", "The sky"),)))
        whole = await it.ask(WholeText(text="The sky"))
    assert isinstance(pair, Likelihoods) and isinstance(whole, Likelihoods)
    assert pair.each == whole.each == (Likelihood(logprob=-7.0, num_tokens=2, is_greedy=True),)


@on_a_loop
async def test_whole_texts(upstream: Upstream) -> None:
    upstream.answer = echo
    async with target(upstream) as it:
        whole = await it.ask(WholeText(text="The sky is"))
        fits = await it.ask(WholeText(text="The sky is", context=3))
        longer = await it.ask(WholeText(text="The sky is", context=2))
        one = await it.ask(WholeText(text="The"))
    assert isinstance(whole, Likelihoods)
    assert whole.each == (Likelihood(logprob=-7.0, num_tokens=2, is_greedy=True),)
    assert fits == Likelihoods(each=whole.each, usage=fits.usage)
    assert isinstance(longer, Failure) and "a text of 3 tokens in windows of 2" in longer.reason
    assert isinstance(one, Failure) and "nothing of the first token" in one.reason


@on_a_loop
async def test_servers_that_tell_none(upstream: Upstream) -> None:
    silent = {"choices": [{"index": 0, "text": "x", "logprobs": None}]}
    no_top = echo({"prompt": ["a b"]})
    no_top["choices"][0]["logprobs"]["top_logprobs"] = None
    fewer = echo({"prompt": ["a b"]})
    del fewer["choices"][0]["logprobs"]["tokens"][1], fewer["choices"][0]["logprobs"]["text_offset"][1]
    upstream.planned = [silent, no_top, fewer, {"choices": []}, [], echo({"prompt": ["a b"]})]
    async with target(upstream) as it:
        for _ in range(5):
            found = await it.ask(Continuations(pairs=(("a", " b"),)))
            assert isinstance(found, Failure)
            assert found.reason.startswith("the server tells no likelihoods of a prompt (echo with logprobs): ")
        found = await it.ask(Continuations(pairs=(("", "a b"),)))
    assert isinstance(found, Failure) and "no context before it" in found.reason


@on_a_loop
async def test_usage_that_is_not_told(upstream: Upstream) -> None:
    upstream.answer = lambda body: {"choices": [{"message": {"content": "x"}}]}
    found = await answer(upstream, price=PRICE)
    assert found.usage == Usage(latency_s=found.usage.latency_s)
