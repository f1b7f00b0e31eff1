"""Likelihoods by a model that reads in a thread of its own, for coroutines that each ask one question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from genai.evaluation.likelihood import answer
from genai.evaluation.records import Continuations, Failure, Likelihoods, WholeText
from genai.models.references import ResolvedModel

if TYPE_CHECKING:
    from genai.inference.likelihoods import RunnerLikelihoods


class Readings:
    """A model that reads, asked by coroutines: what waits is read together.

    Args:
        resolved: the model, for messages.
        model: that reads.
        thread: that it reads in.
        batch_size: questions that are read together, at most.
    """

    def __init__(
        self, resolved: ResolvedModel, model: RunnerLikelihoods, thread: ThreadPoolExecutor, *, batch_size: int
    ) -> None:
        self._resolved = resolved
        self._model = model
        self._thread = thread
        self._batch_size = batch_size
        self._waiting: list[tuple[Continuations | WholeText, asyncio.Future[Likelihoods | Failure]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: Continuations | WholeText) -> Likelihoods | Failure:
        """How likely the model finds what is asked about."""
        found: asyncio.Future[Likelihoods | Failure] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, found))
        if self._task is None:
            self._task = asyncio.create_task(self._read_all())
        return await found

    async def close(self) -> None:
        """End what is read; who waits is told so."""
        self._model.stop()
        if self._task is not None:
            await self._task

    async def _read_all(self) -> None:
        try:
            await asyncio.sleep(0)  # those that are asked in the same breath are there by then
            while self._waiting:
                batch = [each for each in self._waiting[: self._batch_size] if not each[1].done()]
                del self._waiting[: self._batch_size]
                await self._read(batch)
        finally:
            self._task = None

    async def _read(self, batch: Sequence[tuple[Continuations | WholeText, asyncio.Future[Any]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            outcomes = await loop.run_in_executor(self._thread, self._answer, [question for question, _ in batch])
        except Exception as error:
            for _, found in batch:
                if not found.done():
                    found.set_exception(error)
            return
        for (_, found), outcome in zip(batch, outcomes, strict=True):
            if not found.done():
                found.set_result(outcome)

    def _answer(self, questions: Sequence[Continuations | WholeText]) -> list[Likelihoods | Failure]:
        from genai.inference.opening import enough_memory

        with enough_memory(self._resolved.reference, self._resolved.path):
            return answer(self._model, questions)
