"""A target whose answers are kept: a verdict that was paid for once is not asked for again."""

from __future__ import annotations

import asyncio

from genai.evaluation.interfaces import Target
from genai.evaluation.records import Outcome, Question
from genai.evaluation.store import AnswerStore, key_of


class KeptTarget:
    """Asks a target for what the store does not hold; meets `Target`.

    Args:
        target: what is asked.
        store: where answers are kept.
        scope: in place of a fingerprint where the target has none; see `genai.evaluation.store.scope_of`.
    """

    def __init__(self, target: Target, store: AnswerStore, *, scope: str) -> None:
        self._target = target
        self._store = store
        self._scope = target.fingerprint or scope

    @property
    def name(self) -> str:
        """See `Target`."""
        return self._target.name

    @property
    def fingerprint(self) -> str | None:
        """See `Target`."""
        return self._target.fingerprint

    @property
    def concurrency(self) -> int:
        """See `Target`."""
        return self._target.concurrency

    async def __aenter__(self) -> KeptTarget:
        await self._target.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._target.__aexit__(*error)

    async def ask(self, question: Question) -> Outcome:
        """What is kept, marked as `cached`; else the target's answer, which is on the disk when this returns.

        Raises:
            GenaiError: the target fails for all questions alike, or the store cannot be read or written.
        """
        key = key_of(self._scope, question)
        if (kept := self._store.get([key]).get(key)) is not None:
            return kept
        outcome = await self._target.ask(question)
        await asyncio.wrap_future(self._store.submit(key, question, outcome))
        return outcome
