"""One answer on its way: from chosen tokens to text, log-probabilities and its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from genai.inference.interfaces import Answering, Sampled
from genai.inference.logprobs import described
from genai.inference.sampling import Row
from genai.inference.text import Finish, TextStream, Vocabulary
from genai.models.generation import Event, Fault, FinishReason, TokenLogprob, Usage

if TYPE_CHECKING:
    from genai.models.generation import GenerationRequest


class Answer:
    """What the engine keeps of an answer until its last event.

    Args:
        sequence: its tokens and its place in the cache.
        vocabulary: of the model.
        stop_token_ids: with which the model ends by itself.
    """

    __slots__ = ("_prompt_logprobs", "_text", "_vocabulary", "deadline", "is_over", "row", "sequence")

    def __init__(self, sequence: Answering, vocabulary: Vocabulary, stop_token_ids: Collection[int]) -> None:
        request = sequence.request
        self.sequence = sequence
        self.row = Row(sequence)
        """What the sampler keeps of it."""
        self.is_over = False
        self.deadline = None if request.timeout_s is None else sequence.arrival + request.timeout_s
        """time.monotonic()"""
        self._vocabulary = vocabulary
        self._text = TextStream(vocabulary, request, stop_token_ids=stop_token_ids)
        self._prompt_logprobs: list[TokenLogprob | None] = [None]

    @property
    def request(self) -> GenerationRequest:
        return self.sequence.request

    @property
    def reads_only(self) -> bool:
        """Whether it is over as soon as its prompt is read."""
        return self.request.sampling.max_tokens == 0

    # --- what a step brings -------------------------------------------------------------------------------------------

    def tell_prompt(self, start: int, sampled: Iterable[Sampled]) -> None:
        """Log-probabilities of a piece of the prompt.

        Args:
            start: place of the first token that they are of.
            sampled: of the tokens from there on.
        """
        del self._prompt_logprobs[start:]  # it may have been read before, and lost
        self._prompt_logprobs.extend(described(token, self._vocabulary) for token in sampled)

    def go_on(self, sampled: Sampled) -> Event:
        """The next token, which is the last one of the sequence by now; the event has a `finish_reason` at the end."""
        sequence, token_id = self.sequence, sampled.token_id
        text, finish = self._text.push(token_id)
        if finish is None and (reason := self._reason(token_id)) is not None:
            finish = Finish(reason)
            text += self._text.end()
        return Event(
            id=sequence.id,
            text=text,
            token_ids=[token_id],
            logprobs=[] if sampled.logprob is None else [described(sampled, self._vocabulary)],
            prompt_logprobs=self._first_time(),
            finish_reason=None if finish is None else finish.reason,
            stop_reason=None if finish is None else finish.stop_reason,
            usage=None if finish is None else self._usage(),
        )

    def end_read(self) -> Event:
        """The prompt was read, and more was not wanted."""
        return Event(
            id=self.sequence.id, prompt_logprobs=self._first_time(), finish_reason="length", usage=self._usage()
        )

    def break_off(self, reason: FinishReason, fault: Fault | None = None) -> Event:
        """It ends before its end; what was held back of its text comes with it."""
        return Event(id=self.sequence.id, text=self._text.end(), finish_reason=reason, fault=fault, usage=self._usage())

    # --- helpers

    def _reason(self, token_id: int) -> FinishReason | None:
        """Whether it is over for a reason that is not in its text."""
        constraint = self.sequence.constraint
        if constraint is not None:
            constraint.accept(token_id)
            if constraint.is_over:
                return "stop"
        return "length" if len(self.sequence.output_ids) >= self.request.sampling.max_tokens else None

    def _first_time(self) -> list[TokenLogprob | None]:
        """Those of the prompt, once."""
        if self.request.sampling.prompt_logprobs is None or len(self.sequence.output_ids) > 1:
            return []
        return self._prompt_logprobs

    def _usage(self) -> Usage:
        sequence = self.sequence
        return Usage(
            prompt_tokens=len(sequence.request.prompt_ids),
            completion_tokens=len(sequence.output_ids),
            cached_tokens=sequence.num_cached,
        )
