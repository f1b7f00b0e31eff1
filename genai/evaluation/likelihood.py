"""Questions of likelihood into rows that a model reads, and what it found into answers; knows of no model.

Texts become tokens, and long texts become windows, as in EleutherAI's lm-evaluation-harness, so that scores can be
compared with published ones. What is asked several times is read once: equal rows are one, and a row that another one
begins with is asked there. Rows are handed over sorted, so that those that begin alike lie together.

Source:
    lm-evaluation-harness 0.4.13, `lm_eval/api/model.py` (TemplateLM) and `lm_eval/utils.py` (rolling windows).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from genai.evaluation.records import Continuations, Failure, Likelihood, Likelihoods, Usage, WholeText
from genai.models.likelihoods import Row, RowScores, TextTokens


class LikelihoodModel(Protocol):
    """A model with its tokenizer; met by `genai.models.likelihoods.TransformersLikelihoods` and by
    `genai.inference.likelihoods.RunnerLikelihoods`.
    """

    @property
    def max_length(self) -> int:
        """Tokens that it looks at, at most."""

    @property
    def texts(self) -> TextTokens:
        """Its tokenizer."""

    def read(self, rows: Sequence[Row]) -> list[RowScores]:
        """Read rows of at most `max_length` tokens; what their questions found, in the order of the rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Tokens whose likelihood is wanted, and those before them; one of these at least."""

    context: list[int]
    wanted: list[int]


class _UnanswerableError(Exception):
    """A question that no model can answer, and why."""


def answer(model: LikelihoodModel, questions: Sequence[Continuations | WholeText]) -> list[Likelihoods | Failure]:
    """The likelihoods that questions ask for.

    Args:
        model: that is asked.
        questions: all that are there at once: what they have in common is read once.
    """
    spans: list[list[list[Span]] | Failure] = []
    for question in questions:
        try:
            spans.append(list(spans_of(model, question)))
        except _UnanswerableError as error:
            spans.append(Failure(reason=str(error)))
    flat = [span for each in spans if not isinstance(each, Failure) for texts in each for span in texts]
    scores = iter(score(model, flat))
    return [
        each if isinstance(each, Failure) else _likelihoods([[(span, next(scores)) for span in text] for text in each])
        for each in spans
    ]


def spans_of(model: LikelihoodModel, question: Continuations | WholeText) -> Iterator[list[Span]]:
    """The spans of each text that is asked about: one of a continuation, as many as there are windows of a whole text.

    Args:
        model: whose tokens they are.
        question: what is asked.
    """
    if isinstance(question, WholeText):
        length = min(question.context or model.max_length, model.max_length)
        yield list(windows(encode(model.texts, question.text), model.texts.prefix_id, length, question.stride))
        return
    for context, continuation in question.pairs:
        yield [_fitted(encode_pair(model.texts, context, continuation), model.max_length)]


# --- texts into tokens ------------------------------------------------------------------------------------------------


def encode(texts: TextTokens, text: str) -> list[int]:
    """Tokens of a text with the tokenizer's own beginning, but not twice where the text has it already."""
    return texts.encode(text, add_special_tokens=not (texts.prefix_text and text.startswith(texts.prefix_text)))


def encode_pair(texts: TextTokens, context: str, continuation: str) -> Span:
    """A continuation's tokens as they stand behind the context.

    Spaces at the context's end belong to the continuation, as tokens begin with a space rather than end with one.

    Args:
        texts: the tokenizer.
        context: may be empty.
        continuation: whose likelihood is wanted.
    """
    if not context:
        wanted = texts.encode(continuation, add_special_tokens=False)
        if wanted[:1] == [texts.prefix_id]:
            return Span(context=wanted[:1], wanted=wanted[1:])
        return Span(context=[texts.prefix_id], wanted=wanted)
    whole, context = context + continuation, context.rstrip()
    if not context:
        # Nothing but spaces, over which lm-eval fails: they begin the continuation, and there is no context.
        return Span(context=[texts.prefix_id], wanted=texts.encode(whole, add_special_tokens=False))
    before = encode(texts, context)
    return Span(context=before, wanted=encode(texts, whole)[len(before) :])


def _fitted(span: Span, max_length: int) -> Span:
    """The end of what is too long; the last token is not read."""
    if not span.wanted:
        raise _UnanswerableError("a continuation has no tokens of its own")
    if len(span.wanted) > max_length:
        raise _UnanswerableError(f"a continuation has {len(span.wanted)} tokens, and the model looks at {max_length}")
    room = max_length + 1 - len(span.wanted)
    return Span(context=span.context[-room:], wanted=span.wanted) if len(span.context) > room else span


def windows(ids: Sequence[int], prefix_id: int, max_length: int, stride: int | None = None) -> Iterator[Span]:
    """Windows over a text, each token of which is wanted once.

    The first window begins with the prefix. With a stride of `max_length` (the default) every further one begins behind
    the last, but for the final one, which reaches back as far as there is room. With a smaller stride each further
    window wants so many tokens, and sees more of what is before them.

    Args:
        ids: of the text.
        prefix_id: stands before it.
        max_length: tokens that are read at once.
        stride: tokens that a window moves on, at most `max_length`.
    """
    step = min(stride or max_length, max_length)
    if not ids:
        return
    first = min(max_length, len(ids))
    yield Span(context=[prefix_id], wanted=list(ids[:first]))
    for start in range(first, len(ids), step):
        stop = min(start + step, len(ids))
        yield Span(context=list(ids[stop - 1 - max_length : start]), wanted=list(ids[start:stop]))


# --- tokens into rows, and back ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanScore:
    """How likely the wanted tokens of a span are."""

    logprob: float
    is_greedy: bool


def score(model: LikelihoodModel, spans: Sequence[Span]) -> list[SpanScore]:
    """How likely spans are; rows that several ask about are read once.

    Args:
        model: that reads.
        spans: none longer than it can read, their last token aside.
    """
    rows, where = rows_of(spans)
    found = model.read(rows)
    result = []
    for span, (row, first) in zip(spans, where, strict=True):
        asked = slice(first, first + len(span.wanted))
        scores = found[row]
        result.append(SpanScore(logprob=math.fsum(scores.logprobs[asked]), is_greedy=all(scores.are_likeliest[asked])))
    return result


def rows_of(spans: Sequence[Span]) -> tuple[list[Row], list[tuple[int, int]]]:
    """Rows that are to be read, sorted by their tokens, and for each span its row and its first question there."""
    inputs = [[*span.context, *span.wanted[:-1]] for span in spans]
    # Backwards: what begins like the one before (which is longer) is asked there.
    order = sorted(range(len(spans)), key=lambda at: inputs[at], reverse=True)
    kept: list[int] = []
    asked: list[tuple[list[int], list[int]]] = []
    where: list[tuple[int, int]] = [(0, 0)] * len(spans)
    for at in order:
        ids, span = inputs[at], spans[at]
        if not kept or inputs[kept[-1]][: len(ids)] != ids:
            kept.append(at)
            asked.append(([], []))
        places, tokens = asked[-1]
        where[at] = (len(kept) - 1, len(places))
        places.extend(range(len(span.context) - 1, len(ids)))
        tokens.extend(span.wanted)
    rows = [Row(ids=inputs[at], places=each[0], tokens=each[1]) for at, each in zip(kept, asked, strict=True)]
    last = len(rows) - 1
    return rows[::-1], [(last - row, first) for row, first in where]


def _likelihoods(texts: Sequence[Sequence[tuple[Span, SpanScore]]]) -> Likelihoods | Failure:
    each = []
    for text in texts:
        logprob = math.fsum(found.logprob for _, found in text)
        if not math.isfinite(logprob):
            return Failure(reason="the model's output is no number")
        num_tokens = sum(len(span.wanted) for span, _ in text)
        is_greedy = all(found.is_greedy for _, found in text)
        each.append(Likelihood(logprob=logprob, num_tokens=num_tokens, is_greedy=is_greedy))
    read = sum(len(span.context) + len(span.wanted) for text in texts for span, _ in text)
    return Likelihoods(each=tuple(each), usage=Usage(prompt_tokens=read))
