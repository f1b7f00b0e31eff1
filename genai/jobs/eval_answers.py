"""Answers of the engine of `genai serve`, for coroutines that each want one."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai.config.eval import TargetConfig
from genai.config.serve import LocalEngineConfig
from genai.errors import GenaiError
from genai.evaluation.costing import price_of
from genai.evaluation.records import Answer, Failure, Usage
from genai.models.generation import Event, GenerationRequest, Grammar, SamplingParams

if TYPE_CHECKING:
    from genai.inference.engine import LocalEngine
    from genai.inference.opening import OpenedModel

_GRAMMAR_TIMEOUT_S = 20.0


def engine_config(config: TargetConfig) -> LocalEngineConfig:
    """What the engine of `genai serve` is told for a target."""
    return LocalEngineConfig(
        precision=config.precision,
        max_model_len=config.max_model_len,
        max_num_seqs=config.concurrency,
        max_adapters=1,  # none is ever loaded
    )


@dataclass(kw_only=True)
class _Pending:
    """An answer under way."""

    last: asyncio.Future[Event]
    begun: float
    """time.monotonic()"""
    texts: list[str] = field(default_factory=list)
    first_at: float | None = None
    last_at: float = 0.0


class EngineAnswers:
    """The engine, asked by coroutines.

    Args:
        name: of the target.
        config: how many at a time, how long.
    """

    def __init__(self, name: str, config: TargetConfig) -> None:
        self._name = name
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(config.concurrency)
        self._numbers = itertools.count()
        self._pending: dict[str, _Pending] = {}
        self._engine: LocalEngine

    def begin(self, opened: OpenedModel) -> None:
        """Start the engine, which owns the model from now on."""
        from genai.inference.engine import LocalEngine

        self._engine = LocalEngine(
            self._name,
            opened,
            config=engine_config(self._config),
            emit=self._emit,
            grammar_timeout_s=_GRAMMAR_TIMEOUT_S,
        )

    async def ask(self, prompt_ids: list[int], sampling: SamplingParams, grammar: Grammar | None) -> Answer | Failure:
        """What the model says; its time runs from when the engine can begin."""
        async with self._slots:
            number = str(next(self._numbers))
            pending = _Pending(last=self._loop.create_future(), begun=time.monotonic())
            self._pending[number] = pending
            try:
                self._engine.submit(
                    GenerationRequest(
                        id=number,
                        model=self._name,
                        prompt_ids=prompt_ids,
                        sampling=sampling,
                        grammar=grammar,
                        timeout_s=self._config.timeout_s,
                    )
                )
                last = await pending.last
            finally:
                del self._pending[number]
                if pending.last.cancelled():
                    self._engine.abort([number])
        return self._outcome(pending, last)

    async def close(self) -> None:
        """End the engine and let go of the model; answers under way end with a failure."""
        await asyncio.to_thread(self._engine.close)

    def _outcome(self, pending: _Pending, last: Event) -> Answer | Failure:
        usage = self._usage(pending, last)
        if last.fault is None and last.finish_reason in ("stop", "length"):
            return Answer(text="".join(pending.texts), finish_reason=last.finish_reason, usage=usage)
        if self._engine.failed is not None:
            raise GenaiError(f"the engine gave up: {self._engine.failed}", where=self._name)
        if last.fault is not None and last.fault.code == "timeout":
            return Failure(reason=f"no answer in {self._config.timeout_s:g} s", usage=usage)
        return Failure(reason="it was given up" if last.fault is None else last.fault.message, usage=usage)

    def _usage(self, pending: _Pending, last: Event) -> Usage:
        read = 0 if last.usage is None else last.usage.prompt_tokens
        said = 0 if last.usage is None else last.usage.completion_tokens
        return Usage(
            prompt_tokens=read,
            completion_tokens=said,
            usd=price_of(self._config.price, prompt_tokens=read, completion_tokens=said),
            latency_s=pending.last_at - pending.begun,
            ttft_s=None if pending.first_at is None else pending.first_at - pending.begun,
        )

    def _emit(self, events: list[Event]) -> None:
        """Called by the engine's thread."""
        self._loop.call_soon_threadsafe(self._take, events, time.monotonic())

    def _take(self, events: list[Event], at: float) -> None:
        for event in events:
            pending = self._pending.get(event.id)
            if pending is None:  # nobody waits for it any more
                continue
            pending.texts.append(event.text)
            if event.token_ids and pending.first_at is None:
                pending.first_at = at
            if event.finish_reason is not None and not pending.last.done():
                pending.last_at = at
                pending.last.set_result(event)
