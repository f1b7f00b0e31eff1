"""Put the questions of all examples to a target, many at once, and keep every answer as soon as it is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from genai.errors import GenaiError
from genai.evaluation.interfaces import Target
from genai.evaluation.records import Example, Failure, Outcome, Usage
from genai.evaluation.stopping import Stop, stop_on_signals
from genai.evaluation.store import AnswerStore, key_of
from genai.evaluation.targets.logged import LoggedTarget
from genai.log import ProgressTask, progress

GRACE_S = 10.0
"""How long answers under way are waited for when a signal comes."""


async def collect(
    target: Target,
    examples: Sequence[Example],
    *,
    store: AnswerStore | None = None,
    kept_as: str | None = None,
    max_usd: float | None = None,
    max_failures: int | None = None,
    on_outcome: Callable[[Example, Outcome], None] | None = None,
    stop: Stop | None = None,
    description: str | None = None,
) -> list[Outcome]:
    """The outcomes of all examples, in their order.

    `target.concurrency` questions are under way at once until none is left; it is opened only when there is something
    to ask. Answers that the store has are not asked for again, and equal questions are asked once; such outcomes are
    `cached`, and have no latency unless it was measured in this run.

    Args:
        target: is asked; opened and closed here, so put the examples of all data sets into one call.
        examples: of any data sets that it can be asked.
        store: keeps answers, unless they come from a file; without one, nothing is kept and equal questions are asked
            apart.
        kept_as: in place of the target's fingerprint where it has none: `store.scope_of(...)`, which makes the answers
            those of one run, for when it goes on after a kill; None: they are not kept.
        max_usd: what the answers may cost, those of the store not counted.
        max_failures: examples that may stay without an answer.
        on_outcome: told of every example once its outcome is kept, in any order; it must not take long.
        stop: asked from outside; by default SIGINT and SIGTERM do so.
        description: of the progress bar; by default `asking NAME`.

    Raises:
        StoppedError: a signal came; answers under way were waited for, but no longer than `GRACE_S`.
        GenaiError: it costs too much, too many failed, the target refuses, or the disk is full. What was answered
            until then is kept.
    """
    asking = _Asking(target, examples, max_usd=max_usd, max_failures=max_failures, on_outcome=on_outcome)
    asking.take_kept(store, kept_as)
    with ExitStack() as stack:
        asking.stop = stop or stack.enter_context(stop_on_signals())
        asking.bar = stack.enter_context(progress(description or f"asking {target.name}", len(examples)))
        asking.show()
        if asking.left:
            async with target:
                await asking.ask_all()
    return asking.outcomes()


class _Asking:
    """The examples, and how far one is."""

    stop: Stop
    bar: ProgressTask

    def __init__(
        self,
        target: Target,
        examples: Sequence[Example],
        *,
        max_usd: float | None,
        max_failures: int | None,
        on_outcome: Callable[[Example, Outcome], None] | None,
    ) -> None:
        self._target = target
        self._examples = examples
        self._max_usd = max_usd
        self._max_failures = max_failures
        self._on_outcome = on_outcome
        self._store: AnswerStore | None = None
        self._found: dict[int, Outcome] = {}
        self._failures: Counter[str] = Counter()
        self._usd: float | None = None
        self.left: list[tuple[str | None, list[int]]] = []
        """Key of a question, and the places of the examples that ask it."""

    def take_kept(self, store: AnswerStore | None, kept_as: str | None) -> None:
        """Take from the store what it has; the others are left to be asked."""
        fingerprint = self._target.fingerprint or kept_as
        # What a file has need not be kept; and it may answer equal questions of two examples in two ways.
        if store is None or fingerprint is None or isinstance(self._target, LoggedTarget):
            self.left = [(None, [place]) for place in range(len(self._examples))]
            return
        self._store = store
        places: dict[str, list[int]] = {}
        for place, example in enumerate(self._examples):
            places.setdefault(key_of(fingerprint, example.question), []).append(place)
        kept = store.get(list(places))
        is_of_this_run = self._target.fingerprint is None
        for key, same in places.items():
            if key in kept:
                outcome = kept[key]
                usage = outcome.usage if is_of_this_run else _without_times(outcome.usage)
                self._tell(same, replace(outcome, usage=usage))
            else:
                self.left.append((key, same))

    async def ask_all(self) -> None:
        """Until nothing is left, or it has to end."""
        asking = asyncio.create_task(self._ask_all())
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({asking}, timeout=GRACE_S)
        finally:
            for task in (asking, stopping):
                task.cancel()
            await asyncio.wait({asking, stopping})
        if not asking.cancelled() and (error := asking.exception()):
            raise _first(error)
        if self.stop.asked or len(self._found) < len(self._examples):
            raise self._ended()

    def outcomes(self) -> list[Outcome]:
        """In the order of the examples."""
        return [self._found[place] for place in range(len(self._examples))]

    def show(self) -> None:
        """Draw how far one is, and what it has cost."""
        fields = {} if self._usd is None else {"cost": f"${self._usd:.4f}"}
        if self._failures:
            fields["failed"] = str(self._failures.total())
        self.bar.update(len(self._found), **fields)

    async def _ask_all(self) -> None:
        questions = iter(self.left)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._target.concurrency, len(self.left))):
                group.create_task(self._work(questions, group))

    async def _work(self, questions: Iterator[tuple[str | None, list[int]]], group: asyncio.TaskGroup) -> None:
        """Ask one question after the other. While an answer is on its way to the disk the next one is asked for, but
        not the one after that.
        """
        keeping: asyncio.Task[None] | None = None
        while not self._must_end and (following := next(questions, None)) is not None:
            key, places = following
            outcome = await self._target.ask(self._examples[places[0]].question)
            self._count(outcome, len(places))
            if keeping is not None:
                await keeping
            keeping = group.create_task(self._keep(key, places, outcome))

    async def _keep(self, key: str | None, places: list[int], outcome: Outcome) -> None:
        if self._store is not None and key is not None:
            question = self._examples[places[0]].question
            await asyncio.wrap_future(self._store.submit(key, question, outcome))
        self._tell(places, outcome)
        self.show()

    def _count(self, outcome: Outcome, num_examples: int) -> None:
        if outcome.usage.usd is not None:
            self._usd = (self._usd or 0.0) + outcome.usage.usd
        if isinstance(outcome, Failure):
            self._failures[outcome.reason] += num_examples
            if self._max_failures is not None and self._failures.total() > self._max_failures:
                raise self._too_many_failed()

    def _tell(self, places: list[int], outcome: Outcome) -> None:
        for number, place in enumerate(places):
            self._found[place] = outcome if number == 0 else _again(outcome)
            if self._on_outcome is not None:
                self._on_outcome(self._examples[place], self._found[place])

    @property
    def _must_end(self) -> bool:
        return self.stop.asked or self._is_too_expensive

    @property
    def _is_too_expensive(self) -> bool:
        return self._max_usd is not None and (self._usd or 0.0) > self._max_usd

    def _ended(self) -> GenaiError:
        """Why not everything was asked."""
        if self.stop.asked:
            return self.stop.error(f"asking {self._target.name}")
        so_far = f"{len(self._found)} of {len(self._examples)} examples"
        return GenaiError(
            f"asking {self._target.name} has cost ${self._usd:.4f} for {so_far}, and ${self._max_usd:g} was allowed",
            fix="raise max_usd, or ask less (limit of the data set)",
        )

    def _too_many_failed(self) -> GenaiError:
        [(reason, count)] = self._failures.most_common(1)
        failed, num = self._failures.total(), len(self._examples)
        return GenaiError(
            f"{self._target.name} gave no answer to {failed} of {num} examples, more than max_failures allows; "
            f"{count} times: {reason}"
        )


def _again(outcome: Outcome) -> Outcome:
    """The outcome for another example with the same question."""
    if isinstance(outcome, Failure):
        return outcome
    return replace(outcome, usage=_without_times(outcome.usage), cached=True)


def _without_times(usage: Usage) -> Usage:
    return replace(usage, latency_s=None, ttft_s=None)


def _first(error: BaseException) -> BaseException:
    """Of errors that came together the one that is to be told: the user's before a bug."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    each = [_first(inner) for inner in error.exceptions]
    return next((inner for inner in each if isinstance(inner, GenaiError)), each[0])
