"""Likelihoods of given texts by the runner of the `local` engine, with its weights and a cache of its own.

Rows lie end to end in a step, so that nothing is padded. What a row begins with in common with the one before it is not
read again: rows that come sorted, as from `genai.evaluation.likelihood.rows_of`, so share every beginning.

Shapes: R places of a step that are asked; V vocabulary.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai.errors import GenaiError
from genai.inference.interfaces import Answering, Part, Step
from genai.models.generation import GenerationRequest
from genai.models.likelihoods import Row, RowScores, TextTokens, look_up

if TYPE_CHECKING:
    from genai.inference.opening import OpenedModel

_BLOCK_SIZE = 4
"""Tokens; beginnings are shared in whole blocks."""
_STEP_TOKENS = 1024
"""Read at once, at most."""
_STEP_LOGITS = 1 << 24
"""Numbers (V each place that is asked) made at once, at most: 64 MiB."""
_CACHE_TOKENS = 4096
"""That there is room for, where no row is longer."""


@dataclass(eq=False, slots=True)
class _Reading:
    """A row on its way through the model."""

    row: Row
    sequence: Answering
    start: int
    """Place of the first token that is read: those before are in the cache."""
    first: int
    """The first place that is asked."""
    scores: RowScores
    blocks: list[int] = field(default_factory=list)


class RunnerLikelihoods:
    """Meets `genai.evaluation.likelihood.LikelihoodModel`. One thread at a time reads; `stop` is for any.

    Args:
        opened: the model; an engine may answer with it at the same time.
        texts: its tokenizer.
        max_length: tokens that it looks at; by default all that it can.
    """

    def __init__(self, opened: OpenedModel, texts: TextTokens, *, max_length: int | None = None) -> None:
        self.max_length = max_length or opened.max_model_len
        self.texts = texts
        # The same weights; what `allocate` sets is its own.
        self._runner = copy.copy(opened.runner)
        self._max_places = max(1, _STEP_LOGITS // opened.vocab_size)
        self._num_blocks = 0
        self._last: _Reading | None = None
        """What the next row may have in common with."""
        self._is_stopped = threading.Event()

    def read(self, rows: Sequence[Row]) -> list[RowScores]:
        """What the questions of each row found, in the order of the rows.

        Args:
            rows: of at most `max_length` tokens.

        Raises:
            GenaiError: it was stopped.
        """
        found: list[RowScores] = []
        try:
            self._make_room(max((len(row.ids) for row in rows), default=0))
            waiting = list(rows)
            while waiting:
                batch = self._take(waiting)
                del waiting[: len(batch)]
                for step in self._steps(batch):
                    self._run(step)
                found += [reading.scores for reading in batch]
        except BaseException:
            self._last = None  # its keys and values may not be there
            raise
        return found

    def stop(self) -> None:
        """End the reading that is under way before its next step, and any that would come."""
        self._is_stopped.set()

    # --- the cache ----------------------------------------------------------------------------------------------------

    def _make_room(self, longest: int) -> None:
        wanted = 1 + -(-max(longest, min(_CACHE_TOKENS, self.max_length)) // _BLOCK_SIZE)
        if wanted > self._num_blocks:
            self._runner.allocate(wanted, _BLOCK_SIZE)
            self._num_blocks, self._last = wanted, None

    def _take(self, rows: Sequence[Row]) -> list[_Reading]:
        """As many rows as there is room for, one at least, with their blocks."""
        last = self._last
        free = sorted(set(range(1, self._num_blocks)).difference(last.blocks if last else ()))
        batch: list[_Reading] = []
        for row in rows:
            reading = _begin(row, last)
            num_new = -(-len(row.ids) // _BLOCK_SIZE) - reading.start // _BLOCK_SIZE
            if num_new > len(free):
                break
            shared = last.blocks[: reading.start // _BLOCK_SIZE] if last else []
            reading.blocks = reading.sequence.blocks = [*shared, *free[:num_new]]
            del free[:num_new]
            batch.append(reading)
            last = reading
        if not batch:  # what is kept of the last row takes the room that this one needs
            self._last = None
            return self._take(rows)
        self._last = last
        return batch

    # --- steps --------------------------------------------------------------------------------------------------------

    def _steps(self, batch: Sequence[_Reading]) -> Iterator[list[tuple[_Reading, Part]]]:
        """Parts that are read together, in the rows' order: what a row shares is read with it or before."""
        step: list[tuple[_Reading, Part]] = []
        tokens, places = _STEP_TOKENS, self._max_places
        for reading in batch:
            at, end = reading.start, len(reading.row.ids)
            while at < end:
                asked = at >= reading.first
                stop = min(end if asked else min(reading.first, end), at + tokens)
                stop = min(stop, at + places) if asked else stop
                if stop > at:
                    step.append((reading, _part(reading, at, stop, asked)))
                    tokens, places = tokens - (stop - at), places - (stop - at if asked else 0)
                    at = stop
                if at < end and (not tokens or not places):
                    yield step
                    step, tokens, places = [], _STEP_TOKENS, self._max_places
        if step:
            yield step

    def _run(self, parts: Sequence[tuple[_Reading, Part]]) -> None:
        if self._is_stopped.is_set():
            raise GenaiError("the model was stopped while it read")
        logits_RV = self._runner.forward(Step(parts=[part for _, part in parts], num_decodes=0, block_size=_BLOCK_SIZE))
        rows: list[int] = []
        targets: list[tuple[RowScores, int]] = []
        tokens: list[int] = []
        first_row = 0
        for reading, part in parts:
            if not part.wants_all_logits:
                continue
            for question, place in enumerate(reading.row.places):
                if part.start <= place < part.stop:
                    rows.append(first_row + place - part.start)
                    tokens.append(reading.row.tokens[question])
                    targets.append((reading.scores, question))
            first_row += len(part.token_ids)
        found = look_up(logits_RV, rows, tokens)
        for (scores, question), logprob, is_likeliest in zip(targets, found.logprobs, found.are_likeliest, strict=True):
            scores.logprobs[question] = logprob
            scores.are_likeliest[question] = is_likeliest


def _begin(row: Row, last: _Reading | None) -> _Reading:
    """A row with what is still to be read of it; what is asked is read again, as its logits were not kept."""
    first = min(row.places, default=len(row.ids))
    common = 0 if last is None else _num_common(row.ids, last.row.ids, first)
    num_questions = len(row.places)
    return _Reading(
        row=row,
        sequence=Answering(request=GenerationRequest(id="", model="", prompt_ids=list(row.ids)), arrival=0.0),
        start=common // _BLOCK_SIZE * _BLOCK_SIZE,
        first=first,
        scores=RowScores(logprobs=[0.0] * num_questions, are_likeliest=[False] * num_questions),
    )


def _num_common(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """Tokens at the beginning that are the same, `limit` at most."""
    length = min(len(one), len(other), limit)
    return next((at for at in range(length) if one[at] != other[at]), length)


def _part(reading: _Reading, start: int, stop: int, asked: bool) -> Part:
    blocks = reading.blocks
    return Part(
        sequence=reading.sequence,
        start=start,
        token_ids=list(reading.row.ids[start:stop]),
        slots=[blocks[at // _BLOCK_SIZE] * _BLOCK_SIZE + at % _BLOCK_SIZE for at in range(start, stop)],
        wants_logits=False,
        wants_all_logits=asked,
    )
