"""An engine that says what it was told to say, and a request to an API as the server makes it: for tests of serving."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from genai.config.serve import LimitsConfig
from genai.models.generation import (
    AdapterCard,
    EmbedRequest,
    EmbedResult,
    Event,
    Fault,
    GenerationRequest,
    ModelCard,
    RerankRequest,
    RerankResult,
    TokenLogprob,
    Usage,
)

WORDS = ("Hello", " world", "!")
Script = Callable[[GenerationRequest], Sequence[Event]]


def text_card(name: str = "faq", folder: Path | str = "", **changes: Any) -> ModelCard:
    """A language model of 300 tokens with a context of 100."""
    values: dict[str, Any] = {
        "name": name,
        "kind": "text",
        "state": "ready",
        "reference": f"runs:{name}",
        "folder": str(folder),
        "fingerprint": "0123456789abcdef",
        "created": 1_700_000_000,
        "max_model_len": 100,
        "vocab_size": 300,
        "stop_token_ids": [2],
    }
    return ModelCard(**{**values, **changes})


def adapter_card(name: str) -> AdapterCard:
    """A LoRA adapter."""
    return AdapterCard(
        name=name, reference=f"runs:{name}", fingerprint="feedbeef00000000", rank=8, created=1_800_000_000
    )


def words(request: GenerationRequest, said: Sequence[str] = WORDS, reason: Any = "stop") -> list[Event]:
    """An event a word, with log-probabilities where they are asked for."""
    asked = request.sampling
    said = said[: asked.max_tokens]
    events = [
        Event(
            id=request.id,
            text=text,
            token_ids=[10 + number],
            logprobs=[logprob(10 + number, text, asked.logprobs)] if asked.logprobs is not None else [],
        )
        for number, text in enumerate(said)
    ]
    if asked.prompt_logprobs is not None:
        of_prompt = [logprob(token, f"<{token}>", asked.prompt_logprobs) for token in request.prompt_ids[1:]]
        events.insert(0, Event(id=request.id, prompt_logprobs=[None, *of_prompt]))
    usage = Usage(prompt_tokens=len(request.prompt_ids), completion_tokens=len(said), cached_tokens=1)
    return [*events, Event(id=request.id, finish_reason=reason, usage=usage)]


def logprob(token_id: int, text: str, num_top: int = 0) -> TokenLogprob:
    """A token that is the likeliest of all."""
    top = [
        TokenLogprob(
            token_id=token_id + place, text=f"{text}{'~' * place}", data=b"", logprob=-0.5 - place, rank=place + 1
        )
        for place in range(num_top)
    ]
    return TokenLogprob(token_id=token_id, text=text, data=text.encode(), logprob=-0.5, rank=1, top=tuple(top))


class ScriptedStream:
    """Gives the events of all answers in turn, one of each at a time."""

    def __init__(self, scripts: Sequence[Sequence[Event]]) -> None:
        rounds = itertools.zip_longest(*scripts)
        self._rounds = [[event for event in events if event is not None] for events in rounds]
        self.aborted = False

    async def next(self) -> list[Event]:
        await asyncio.sleep(0)
        return self._rounds.pop(0)

    def abort(self) -> None:
        self.aborted = True


class ScriptedEngine:
    """Meets `genai.serving.interfaces.Engine`; remembers what it was asked."""

    def __init__(self, *cards: ModelCard, script: Script = words) -> None:
        self.cards: Mapping[str, ModelCard] = {card.name: card for card in cards}
        self.is_ready = True
        self.script = script
        self.asked: list[GenerationRequest] = []
        self.streams: list[ScriptedStream] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> ScriptedStream:
        self.asked += requests
        self.streams.append(ScriptedStream([self.script(request) for request in requests]))
        return self.streams[-1]

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        return EmbedResult(id=request.id, fault=Fault(code="failed", message="not scripted"))

    async def rerank(self, request: RerankRequest) -> RerankResult:
        return RerankResult(id=request.id, fault=Fault(code="failed", message="not scripted"))


def request_to(
    engine: Any, body: Any = None, *, caller: Any = None, limits: LimitsConfig | None = None, **changes: Any
) -> Any:
    """A `Request` as the server hands it to an API.

    Args:
        engine: answers.
        body: JSON, or bytes as they are.
        caller: who asks; by default one who may ask everything.
        limits: of the server.
        changes: other fields of the request.
    """
    from genai.serving.caller import ANYBODY
    from genai.serving.exchange import Request, Services
    from genai.serving.metrics import Metrics

    services = Services(
        engine=engine, indexes={}, limits=limits or LimitsConfig(), metrics=Metrics(), prompters=_prompters()
    )
    now = time.monotonic()
    values: dict[str, Any] = {
        "id": "r1",
        "method": "POST",
        "path": "/",
        "path_params": {},
        "headers": {},
        "body": body if isinstance(body, bytes) else msgspec.json.encode(body),
        "caller": caller or ANYBODY,
        "services": services,
        "arrival": now,
        "deadline": now + 60,
    }
    return Request(**{**values, **changes})


@lru_cache
def _prompters() -> Any:
    """Tokenizers that were read once stay for all tests."""
    from genai.serving.prompting import Prompters

    return Prompters()


def answered(handler: Any, request: Any) -> Any:
    """The JSON that a handler answers with."""
    return msgspec.json.decode(asyncio.run(handler(request)).body)


def streamed(handler: Any, request: Any) -> list[Any]:
    """The events of a handler's stream: JSON each, the end as "[DONE]"."""

    async def read() -> bytes:
        answer = await handler(request)
        return b"".join([chunk async for chunk in answer.chunks])

    events = asyncio.run(read()).decode().split("\n\n")
    assert events.pop() == ""
    payloads = [event.removeprefix("data: ") for event in events]
    return [payload if payload == "[DONE]" else msgspec.json.decode(payload.encode()) for payload in payloads]
