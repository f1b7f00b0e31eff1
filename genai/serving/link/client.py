"""The engine as a worker process sees it: an `Engine` whose work is done at the other end of a socket.

When the connection is lost every request under way ends with a fault, and the client connects again as soon as there is
somebody to connect to.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from genai.errors import GenaiError, UsageError
from genai.log import get_logger
from genai.models.generation import (
    EmbedRequest,
    EmbedResult,
    Event,
    Fault,
    GenerationRequest,
    ModelCard,
    RerankRequest,
    RerankResult,
)
from genai.serving.link import messages
from genai.serving.link.messages import Framed

_RETRY_S = 0.1
_LOST = Fault(code="failed", message="the engine stopped while it worked on this request; it is started again")
_AWAY = Fault(code="not_loaded", message="the engine is starting; ask again in a moment")
_log = get_logger(__name__)
R = TypeVar("R", EmbedResult, RerankResult)


class Answers:
    """The events of some answers; see `genai.serving.interfaces.EventStream`.

    Args:
        ids: of the answers.
        abort: gives up those that are named.
    """

    __slots__ = ("_abort", "_open", "_pending", "_waiter")

    def __init__(self, ids: Iterable[str], abort: Callable[[list[str]], None]) -> None:
        self._open = set(ids)
        self._abort = abort
        self._pending: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> list[Event]:
        """See `EventStream.next`."""
        while not self._pending:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events, self._pending = self._pending, []
        return events if len(events) == 1 else _merged(events)

    def abort(self) -> None:
        """See `EventStream.abort`."""
        if self._open:
            self._abort(list(self._open))

    def put(self, event: Event) -> bool:
        """Take an event; whether it was the last one of its answer."""
        is_last = event.finish_reason is not None
        if is_last:
            self._open.discard(event.id)
        self._pending.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return is_last


def _merged(events: list[Event]) -> list[Event]:
    """At most one event for each answer, in the order of their first ones."""
    found: dict[str, Event] = {}
    for event in events:
        first = found.get(event.id)
        found[event.id] = event if first is None else joined(first, event)
    return list(found.values())


def joined(first: Event, second: Event) -> Event:
    """Two events of one answer as one."""
    return replace(
        second,
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs,
        prompt_logprobs=first.prompt_logprobs or second.prompt_logprobs,
    )


class EngineClient:
    """An engine in another process; see `genai.serving.interfaces.Engine`.

    Args:
        path: of the engine's socket.
        on_progress: told what the engine is doing.
    """

    def __init__(self, path: Path, *, on_progress: Callable[[str, float | None], None] | None = None) -> None:
        self._path = path
        self._on_progress = on_progress
        self._protocol: Framed | None = None
        self._answers: dict[str, Answers] = {}
        self._results: dict[str, asyncio.Future[Any]] = {}
        self._told: dict[int, asyncio.Future[messages.Told]] = {}
        self._numbers = itertools.count()
        self._connecting: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._is_ready = False
        self._is_closed = False
        self._all: Mapping[str, ModelCard] = {}
        self._public: Mapping[str, ModelCard] = {}

    # --- what the APIs ask ---

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """See `Engine.cards`; those that only indexes use are left out."""
        return self._public

    @property
    def all_cards(self) -> Mapping[str, ModelCard]:
        """Those that only indexes use too."""
        return self._all

    @property
    def is_ready(self) -> bool:
        """See `Engine.is_ready`."""
        return self._is_ready and self._protocol is not None

    def generate(self, requests: Sequence[GenerationRequest]) -> Answers:
        """See `Engine.generate`."""
        answers = Answers((request.id for request in requests), self._abort)
        if self._protocol is None:
            for request in requests:
                answers.put(Event(id=request.id, finish_reason="error", fault=_AWAY))
            return answers
        for request in requests:
            assert request.id not in self._answers, "ids are unique among requests that are under way"
            self._answers[request.id] = answers
        self._protocol.send(messages.Generate(list(requests)))
        return answers

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        """See `Engine.embed`."""
        return await self._result(request.id, messages.Embed(request), EmbedResult(id=request.id, fault=_AWAY))

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """See `Engine.rerank`."""
        return await self._result(request.id, messages.Rerank(request), RerankResult(id=request.id, fault=_AWAY))

    # --- what the operator asks ---

    async def ask(self, verb: str, **values: Any) -> dict[str, Any]:
        """Put a question to whoever runs the engine.

        Raises:
            UsageError: what was asked for cannot be done so.
            GenaiError: it failed, or the engine is not there.
        """
        if self._protocol is None:
            raise GenaiError(_AWAY.message)
        number = next(self._numbers)
        future = self._told[number] = asyncio.get_running_loop().create_future()
        try:
            self._protocol.send(messages.Ask(number, verb, values))
            told = await future
        finally:
            self._told.pop(number, None)
        if told.problem is not None:
            raise (UsageError if told.is_usage else GenaiError)(told.problem, where=told.where, fix=told.fix)
        return told.value or {}

    async def until_ready(self) -> None:
        """Wait until everything that is to be there from the start is there (or has failed)."""
        while not self.is_ready:
            await self.change()

    async def change(self) -> None:
        """Wait until the catalogue or the connection is another one."""
        await self._changed.wait()

    # --- the connection ---

    def start(self) -> None:
        """Begin to connect; goes on until `close`."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def until_connected(self) -> None:
        """Wait for the connection."""
        while self._protocol is None:
            await self.change()

    def close(self) -> None:
        """Leave the engine; what is under way ends with a fault."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            try:
                _, protocol = await loop.create_unix_connection(lambda: Framed(self._take, self._lost), str(self._path))
            except (FileNotFoundError, ConnectionError):
                await asyncio.sleep(_RETRY_S)
                continue
            self._protocol = protocol
            if self._on_progress is not None:
                protocol.send(messages.Ask(next(self._numbers), "follow", {}))
            self._note_change()
            return

    def _lost(self) -> None:
        self._protocol = None
        self._is_ready = False
        answers, self._answers = self._answers, {}
        for request_id, each in answers.items():
            each.put(Event(id=request_id, finish_reason="error", fault=_LOST))
        results, self._results = self._results, {}
        for future in results.values():
            if not future.done():
                future.set_result(None)
        told, self._told = self._told, {}
        for number, asked in told.items():
            if not asked.done():
                asked.set_result(messages.Told(number, problem=_LOST.message))
        self._note_change()
        if not self._is_closed:
            self.start()

    def _take(self, content: memoryview) -> None:
        message = messages.from_engine(content)
        if type(message) is messages.Events:
            answers = self._answers
            for event in message.events:
                to = answers.get(event.id)
                if to is not None and to.put(event):
                    del answers[event.id]
        elif isinstance(message, messages.Embedded | messages.Reranked):
            waiting = self._results.pop(message.result.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message.result)
        elif isinstance(message, messages.Catalogue):
            self._all = {card.name: card for card in message.cards}
            self._public = {card.name: card for card in message.cards if not card.is_internal}
            self._is_ready = message.is_ready
            self._note_change()
        elif isinstance(message, messages.Told):
            asked = self._told.pop(message.id, None)
            if asked is not None and not asked.done():
                asked.set_result(message)
        elif self._on_progress is not None and isinstance(message, messages.Progress):
            self._on_progress(message.text, message.share)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _abort(self, ids: list[str]) -> None:
        if self._protocol is not None:
            self._protocol.send(messages.Abort(ids))

    async def _result(self, request_id: str, message: messages.Message, away: R) -> R:
        if self._protocol is None:
            return away
        future = self._results[request_id] = asyncio.get_running_loop().create_future()
        self._protocol.send(message)
        try:
            result: R | None = await future
        except asyncio.CancelledError:
            self._results.pop(request_id, None)
            self._abort([request_id])
            raise
        return replace(away, fault=_LOST) if result is None else result
