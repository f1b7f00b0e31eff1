import importlib
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.config.eval import PriceConfig
from genai.errors import MissingExtraError
from genai.evaluation.records import Answer, Failure
from genai.evaluation.targets.answers import joined, read_answer
from genai.evaluation.targets.echoed import NoEchoError, likelihood_from, read_tokens, whole_likelihood
from genai.evaluation.targets.replies import Reply

_NAMES = ["choices", "message", "delta", "content", "text", "tool_calls", "function", "name", "arguments", "usage"]
_NAMES += ["error", "contexts", "context", "citations", "finish_reason", "prompt_tokens", "index", "logprobs", "tokens"]
_NAMES += ["text_offset", "token_logprobs", "top_logprobs", "completion_tokens", "refusal"]
_LEAVES = st.none() | st.booleans() | st.integers(-2, 9) | st.floats(-5, 0) | st.sampled_from(["", "a", "a b", "stop"])
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5)
)
PRICE = PriceConfig(usd_per_million_input_tokens=1.0)


def check(found: Answer | Failure) -> None:
    """It holds what its class says."""
    assert isinstance(found.usage.prompt_tokens, int) and isinstance(found.usage.completion_tokens, int)
    if isinstance(found, Failure):
        assert isinstance(found.reason, str)
        return
    texts = [found.text, *found.contexts, *(value for call in found.tool_calls for value in call.values())]
    assert all(isinstance(text, str) for text in texts)
    assert found.finish_reason is None or isinstance(found.finish_reason, str)


@given(body=_JSON)
def test_any_reply_is_an_answer_or_a_failure(body: Any) -> None:
    for reply in (
        body,
        {"choices": [body]},
        {"choices": [{"message": body}]},
        {"choices": [{"text": "x"}], "usage": body},
    ):
        check(read_answer(Reply(body=reply, latency_s=1.0), PRICE))


@given(events=st.lists(_JSON, max_size=4), delta=_JSON)
def test_any_stream_is_an_answer_or_a_failure(events: list[Any], delta: Any) -> None:
    for stream in (events, [{"choices": [{"delta": delta}]}, *events]):
        times = tuple(float(number) for number in range(len(stream)))
        found = read_answer(Reply(body=stream, latency_s=9.0, event_times_s=times), PRICE)
        check(found)
        assert found.usage.ttft_s is None or found.usage.ttft_s in times


@given(body=_JSON)
def test_any_echo_is_read_or_refused(body: Any) -> None:
    for reply in (body, {"choices": [{"index": 0, "logprobs": body}]}):
        try:
            [tokens] = read_tokens(reply, ["a b"])
            for found in (likelihood_from(tokens, 1), whole_likelihood(tokens)):
                assert isinstance(found.logprob, float) and isinstance(found.is_greedy, bool)
        except NoEchoError as error:
            assert str(error)


@given(pieces=st.lists(st.text(max_size=4), min_size=1, max_size=6))
def test_a_stream_says_the_same_as_the_whole(pieces: list[str]) -> None:
    events = [{"id": "x", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    events.append({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    whole = {"id": "x", "choices": [{"message": {"content": "".join(pieces)}, "finish_reason": "stop"}]}
    times = (0.5,) * len(events)
    streamed = read_answer(Reply(body=events, latency_s=1.0, event_times_s=times), PRICE)
    at_once = read_answer(Reply(body=whole, latency_s=1.0), PRICE)
    assert isinstance(streamed, Answer) and isinstance(at_once, Answer)
    assert (streamed.text, streamed.finish_reason) == (at_once.text, at_once.finish_reason)
    assert joined(events)["id"] == "x"


def test_without_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "genai.evaluation.targets.connection", raising=False)
    with pytest.raises(MissingExtraError, match=r"needs the package 'aiohttp'.*genai-foundry\[eval\]"):
        importlib.import_module("genai.evaluation.targets.connection")
