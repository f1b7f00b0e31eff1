"""A real model behind `genai serve`: what an endpoint says, beside the same model asked directly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from genai_servers import GenaiServer, serving, write_config

from genai.config.eval import PriceConfig, SamplingConfig, TargetConfig
from genai.errors import CredentialsError, UsageError
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Failure,
    Likelihoods,
    Outcome,
    Question,
    WholeText,
)
from genai.evaluation.running import collect
from genai.evaluation.targets.endpoint import EndpointTarget
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration

MODEL = "gallery:smollm2-135m-instruct"
TOLERANCE = 2e-3
"""Of log-probabilities, added up over some twenty tokens in float32 by two implementations."""
PAIRS = (
    ("The capital of France is", " Paris"),
    ("The capital of France is ", "Berlin, which everybody knows"),
    ("Wie dick ist der Estrich? 😀", "😀 Sechzig Millimeter"),
)
ACROSS = ("The plural of mou", "se is mice")
"""Its tokens are The, plural, of, mouse, is, mice."""
TEXT = "A gutter needs a slope of three millimetres a metre, or the water stands in it. 建筑 😀"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenaiServer]:
    folder = tmp_path_factory.mktemp("served")
    model = {"type": "model", "model": MODEL, "engine": {"precision": "fp32"}}
    write_config(folder, endpoints={"chat": model}, apps={"web": {"key": "env:WEB_KEY"}})
    with serving(folder, "serve.yaml", env={"WEB_KEY": "key-of-the-web-app"}) as running:
        yield running


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_KEY", "key-of-the-web-app")
    monkeypatch.delenv("http_proxy", raising=False)


def ask(server: GenaiServer, *questions: Question, **values: Any) -> list[Outcome]:
    asked = {
        "endpoint": server.url,
        "model": "chat",
        "api_key": "env:WEB_KEY",
        "sampling": SamplingConfig(max_tokens=12),
    }
    target = EndpointTarget("it", TargetConfig(**{**asked, **values}))
    examples = [
        Example(id=str(place), dataset="d", kind="generation", question=question)
        for place, question in enumerate(questions)
    ]
    return asyncio.run(collect(target, examples))


def test_a_chat_streamed_and_whole(server: GenaiServer) -> None:
    questions = [Chat(prompt=f"How many legs has a {animal}?") for animal in ("dog", "duck", "fly", "spider")]
    price = PriceConfig(usd_per_million_output_tokens=1.0)
    whole, streamed = (ask(server, *questions, stream=stream, price=price) for stream in (False, True))
    for one, other in zip(whole, streamed, strict=True):
        assert isinstance(one, Answer) and isinstance(other, Answer), (one, other)
        assert one.text == other.text != ""
        assert one.finish_reason == other.finish_reason
        assert one.usage.completion_tokens == other.usage.completion_tokens > 0
        assert one.usage.prompt_tokens == other.usage.prompt_tokens > 10
        assert one.usage.usd == pytest.approx(one.usage.completion_tokens / 1e6)
        assert one.usage.ttft_s is None
        assert other.usage.ttft_s is not None and other.usage.latency_s is not None
        assert 0 < other.usage.ttft_s <= other.usage.latency_s


def test_what_an_answer_must_be(server: GenaiServer) -> None:
    schema = {"type": "object", "properties": {"legs": {"type": "integer"}}, "required": ["legs"]}
    schema["additionalProperties"] = False
    sampling = SamplingConfig(max_tokens=40)
    [found] = ask(server, Chat(prompt="How many legs has a dog?", json_schema=schema), sampling=sampling)
    assert isinstance(found, Answer), found
    assert isinstance(json.loads(found.text)["legs"], int)


def test_plain_text(server: GenaiServer) -> None:
    [found] = ask(server, Chat(prompt="One, two, three, four,", max_tokens=2, stop=("\n",)), api="completions")
    assert isinstance(found, Answer), found
    assert "five" in found.text
    assert found.finish_reason == "length"


def test_what_does_not_work(server: GenaiServer) -> None:
    with pytest.raises(UsageError, match=r"does not serve this: HTTP 404: .*nobody"):
        ask(server, Chat(prompt="x"), model="nobody")
    with pytest.raises(CredentialsError, match="refused the key: HTTP 401"):
        ask(server, Chat(prompt="x"), api_key=None)
    [found] = ask(server, Chat(prompt="long " * 9000))
    assert isinstance(found, Failure) and found.reason.startswith("HTTP 400: ")


def test_likelihoods_are_those_of_the_model(server: GenaiServer) -> None:
    pairs, whole = ask(server, Continuations(pairs=(*PAIRS, ACROSS)), WholeText(text=TEXT))
    assert isinstance(pairs, Likelihoods) and isinstance(whole, Likelihoods), (pairs, whole)
    model = Directly()
    for (context, continuation), found in zip(PAIRS, pairs.each[:3], strict=True):
        logprobs, greedy = model.after(context, continuation)
        assert found.num_tokens == len(logprobs)
        assert found.logprob == pytest.approx(sum(logprobs), abs=TOLERANCE)
        assert found.is_greedy == all(greedy)
    logprobs, _ = model.tokens(model.ids("".join(ACROSS)))
    assert pairs.each[3].num_tokens == 3
    assert pairs.each[3].logprob == pytest.approx(sum(logprobs[-3:]), abs=TOLERANCE)
    logprobs, _ = model.tokens(model.ids(TEXT))
    assert whole.each[0].num_tokens == len(logprobs)
    assert whole.each[0].logprob == pytest.approx(sum(logprobs), abs=TOLERANCE)
    assert pairs.each[0].is_greedy
    assert not pairs.each[1].is_greedy


class Directly:
    """The model in transformers; pairs are cut into tokens as lm-eval does it."""

    def __init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder: Path = resolve_model(MODEL).path
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder).float().eval()

    def ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text)["input_ids"]
        return found

    def after(self, context: str, continuation: str) -> tuple[list[float], list[bool]]:
        """Of the continuation's tokens: log-probabilities, and whether each is the likeliest."""
        stripped = context.rstrip()
        whole, before = self.ids(context + continuation), self.ids(stripped)
        logprobs, greedy = self.tokens(whole)
        return logprobs[len(before) - 1 :], greedy[len(before) - 1 :]

    def tokens(self, ids: list[int]) -> tuple[list[float], list[bool]]:
        """Of all tokens but the first."""
        import torch

        with torch.inference_mode():
            logits = self._model(torch.tensor([ids])).logits[0, :-1].float()
        following = torch.tensor(ids[1:])
        logprobs = logits.log_softmax(-1).gather(1, following[:, None])[:, 0]
        return logprobs.tolist(), (logits.argmax(-1) == following).tolist()
