"""An engine that has every answer ready."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from genai.models.generation import Event, GenerationRequest, ModelCard, Usage

WORDS = (" the", " office", " is", " open", " from", " nine", " to", " five", ".", " Ask", " us", " by", " mail", "!")


def card(folder: str) -> ModelCard:
    """The only model."""
    return ModelCard(
        name="faq",
        kind="text",
        state="ready",
        reference="gallery:smollm2-135m-instruct",
        folder=folder,
        fingerprint="0123456789abcdef",
        created=1,
        max_model_len=2048,
        vocab_size=49152,
        stop_token_ids=[2],
    )


def event(request: GenerationRequest, number: int) -> Event:
    """One token of an answer; the last one ends it."""
    most = request.sampling.max_tokens
    text, ids = WORDS[number % len(WORDS)], [100 + number]
    if number < most - 1:
        return Event(id=request.id, text=text, token_ids=ids)
    usage = Usage(prompt_tokens=len(request.prompt_ids), completion_tokens=most)
    return Event(id=request.id, text=text, token_ids=ids, finish_reason="length", usage=usage)


def whole(request: GenerationRequest) -> Event:
    """The answer at once."""
    text, ids, usage = _ready(len(request.prompt_ids), request.sampling.max_tokens)
    return Event(id=request.id, text=text, token_ids=ids, finish_reason="length", usage=usage)


@lru_cache
def _ready(num_prompt: int, most: int) -> tuple[str, list[int], Usage]:
    text = "".join(WORDS[number % len(WORDS)] for number in range(most))
    return text, list(range(100, 100 + most)), Usage(prompt_tokens=num_prompt, completion_tokens=most)


class Answers:
    """See `genai.serving.interfaces.EventStream`."""

    def __init__(self, requests: Sequence[GenerationRequest]) -> None:
        self._requests = requests
        self._number = 0

    async def next(self) -> list[Event]:
        if self._requests[0].sampling.max_tokens <= AT_ONCE:
            return [whole(request) for request in self._requests]
        if self._number:
            # The one before is sent by now: no two events share a packet.
            await asyncio.sleep(0)
        events = [event(request, self._number) for request in self._requests]
        self._number += 1
        return events

    def abort(self) -> None:
        pass


AT_ONCE = 16
"""Answers of so many tokens come whole, longer ones token by token."""


class InstantEngine:
    """See `genai.serving.interfaces.Engine`."""

    def __init__(self, folder: str) -> None:
        self.cards: Mapping[str, ModelCard] = {"faq": card(folder)}
        self.is_ready = True

    def generate(self, requests: Sequence[GenerationRequest]) -> Answers:
        return Answers(requests)


class InstantHost:
    """The same at the other end of the socket; see `genai.serving.link.server.Host`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._open: dict[str, tuple[GenerationRequest, int]] = {}
        """Answers that come token by token, and how many tokens each has had."""
        self._stepping: asyncio.Task[None] | None = None

    def generate(self, requests: Sequence[GenerationRequest]) -> None:
        if requests[0].sampling.max_tokens <= AT_ONCE:
            self._server.publish_events([whole(request) for request in requests])
            return
        self._open |= {request.id: (request, 0) for request in requests}
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.get_running_loop().create_task(self._step())

    async def _step(self) -> None:
        """One token for each answer under way at a time, as a real engine does it, and as far apart as its steps."""
        while self._open:
            self._server.publish_events([event(request, number) for request, number in self._open.values()])
            self._open = {
                name: (request, number + 1)
                for name, (request, number) in self._open.items()
                if number + 1 < request.sampling.max_tokens
            }
            await asyncio.sleep(0.002)

    def embed(self, request: Any) -> None: ...

    def rerank(self, request: Any) -> None: ...

    def abort(self, ids: Collection[str]) -> None: ...

    async def ask(self, verb: str, values: dict[str, Any]) -> dict[str, Any]:
        return {}
