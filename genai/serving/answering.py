"""The answers to one HTTP request while they come: who finished how, what it took, and the figures of the model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai.models.generation import Event, GenerationRequest, TokenLogprob
from genai.serving.errors import ApiError, of_fault
from genai.serving.wire.generating import PromptLogprob, PromptLogprobs, PromptTokensDetails, UsageBody

if TYPE_CHECKING:
    from genai.serving.exchange import Request

LEAST_LOGPROB = -9999.0
"""In place of minus infinity, which JSON does not know."""


@dataclass(slots=True)
class Answer:
    """One of the answers, as far as it has come."""

    index: int
    begun: bool = False
    """Whether something of it was sent."""
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)
    finish_reason: str = ""
    """"" while it is under way."""
    stop_reason: str | int | None = None
    last_s: float = 0.0
    """When its last token came; 0 before the first."""


class Answers:
    """All answers to a request.

    Args:
        request: to be answered; its notes are filled in.
        model: name for the figures.
        wanted: what the engine is asked, `num_choices` for each prompt in turn.
        num_choices: of each prompt.
    """

    def __init__(self, request: Request, model: str, wanted: Sequence[GenerationRequest], num_choices: int) -> None:
        self._request = request
        self._model = model
        self._num_choices = num_choices
        self.all = [Answer(index) for index in range(len(wanted))]
        self.of = dict(zip([asked.id for asked in wanted], self.all, strict=True))
        """By id of what the engine was asked."""
        self.num_open = len(wanted)
        self._prompt_tokens = [0] * (len(wanted) // num_choices)
        self._cached_tokens = [-1] * (len(wanted) // num_choices)
        self._inter_token = request.services.metrics.inter_token
        self._stream = request.services.engine.generate(wanted)
        request.gone.append(self._stream.abort)

    async def next(self) -> list[Event]:
        """What came since; `num_open` is 0 when that was all.

        Raises:
            ApiError: one of the answers came to nothing; the others are given up.
        """
        events = await self._stream.next()
        now = time.monotonic()
        for event in events:
            answer = self.of[event.id]
            if event.token_ids:
                if answer.last_s:
                    self._inter_token(self._model, (now - answer.last_s) / len(event.token_ids))
                elif self._request.notes.first_token_s is None:
                    self._request.notes.first_token_s = now - self._request.arrival
                answer.last_s = now
            if event.finish_reason is not None:
                self._finish(answer, event)
        return events

    async def collect(self) -> None:
        """Wait for all of it.

        Raises:
            ApiError: see `next`.
        """
        while self.num_open:
            for event in await self.next():
                answer = self.of[event.id]
                answer.texts.append(event.text)
                if event.logprobs:
                    answer.logprobs += event.logprobs
                if event.prompt_logprobs:
                    answer.prompt_logprobs = event.prompt_logprobs

    def close(self) -> None:
        """Give up what is still under way."""
        if self.num_open:
            self._stream.abort()

    @property
    def usage(self) -> UsageBody:
        """What all answers took; each prompt counts once."""
        notes = self._request.notes
        return UsageBody(
            prompt_tokens=notes.prompt_tokens,
            completion_tokens=notes.completion_tokens,
            total_tokens=notes.prompt_tokens + notes.completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=notes.cached_tokens),
        )

    def _finish(self, answer: Answer, event: Event) -> None:
        self._count(answer.index // self._num_choices, event)
        reason = str(event.finish_reason)
        self._request.notes.finish_reasons.append(reason)
        self.num_open -= 1
        if event.fault is not None or reason in ("abort", "error"):
            self.close()
            if event.fault is not None:
                raise of_fault(event.fault)
            raise ApiError("the answer was given up before its end", status=503, code="aborted")
        answer.finish_reason = reason
        answer.stop_reason = event.stop_reason

    def _count(self, prompt: int, event: Event) -> None:
        usage, notes = event.usage, self._request.notes
        if usage is None:
            return
        self._prompt_tokens[prompt] = usage.prompt_tokens
        cached = self._cached_tokens[prompt]
        # the first of several choices reads the prompt, the others find it there
        self._cached_tokens[prompt] = usage.cached_tokens if cached < 0 else min(cached, usage.cached_tokens)
        notes.prompt_tokens = sum(self._prompt_tokens)
        notes.cached_tokens = sum([number for number in self._cached_tokens if number > 0])
        notes.completion_tokens += usage.completion_tokens


def told(logprob: float) -> float:
    """A log-probability as JSON can tell it."""
    return logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB


def prompt_logprobs_body(logprobs: Sequence[TokenLogprob | None]) -> PromptLogprobs:
    """vLLM's form of the log-probabilities of a prompt."""
    return [None if entry is None else _by_id(entry) for entry in logprobs]


def _by_id(entry: TokenLogprob) -> dict[int, PromptLogprob]:
    return {
        one.token_id: PromptLogprob(logprob=told(one.logprob), rank=one.rank, decoded_token=one.text)
        for one in (entry, *entry.top)
    }
