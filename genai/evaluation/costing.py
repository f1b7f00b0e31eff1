"""What asking will take, told before anything is asked; and what it took."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from genai.config.eval import JudgeConfig, PriceConfig, SamplingConfig, TargetConfig
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Likelihoods,
    Outcome,
    Query,
    Question,
    Ranking,
    Usage,
    WholeText,
)

CHARACTERS_A_TOKEN = 4.0
"""Where no tokenizer is at hand: what English text has with the usual ones; of other writing it is an underestimate."""
RUBRIC_TOKENS = 500
"""What a judge reads beside the question and the answer: a rubric and what is to be done, generously."""

CountTokens = Callable[[str], int]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What asking will take at most."""

    num_questions: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """If every answer is as long as it may be."""
    usd: float | None = None
    """None: no price is known."""

    def __add__(self, other: Estimate) -> Estimate:
        """Both together; what has no price counts as nothing beside what has one."""
        return Estimate(
            num_questions=self.num_questions + other.num_questions,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            usd=None if self.usd is None and other.usd is None else (self.usd or 0.0) + (other.usd or 0.0),
        )


def by_characters(text: str) -> int:
    """Tokens of a text, by its length."""
    return -int(-len(text) // CHARACTERS_A_TOKEN)


def price_of(price: PriceConfig, *, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What tokens cost in dollars; None where no price is known."""
    if not price.usd_per_million_input_tokens and not price.usd_per_million_output_tokens:
        return None
    spent = prompt_tokens * price.usd_per_million_input_tokens + completion_tokens * price.usd_per_million_output_tokens
    return spent / 1e6


def estimate(
    questions: Iterable[Question], config: TargetConfig, *, count_tokens: CountTokens = by_characters
) -> Estimate:
    """What it takes at most to ask a target.

    Args:
        questions: those that no store has an answer to.
        config: of the target: its system prompt, sampling and price.
        count_tokens: of its tokenizer, where that is at hand.
    """
    before = count_tokens(config.system) if config.system else 0
    read, said, num = 0, 0, 0
    for question in questions:
        num += 1
        read += _prompt_tokens(question, count_tokens) + (before if isinstance(question, Chat) else 0)
        said += _max_answer(question, config.sampling)
    return _priced(config.price, num, read, said)


def estimate_verdicts(
    examples: Sequence[Example],
    judge: JudgeConfig,
    *,
    max_answer_tokens: int,
    num_answers: int = 1,
    num_orders: int = 1,
    count_tokens: CountTokens = by_characters,
) -> Estimate:
    """What it takes at most that a judge scores the answers to examples, if it is understood the first time.

    Args:
        examples: whose answers are judged.
        judge: its sampling and price.
        max_answer_tokens: length of an answer, at most.
        num_answers: that it sees at once: 2 where it compares.
        num_orders: how often it is asked: 2 where both orders are shown.
        count_tokens: of its tokenizer, where that is at hand.
    """
    shown = sum(
        _prompt_tokens(example.question, count_tokens)
        + sum(count_tokens(text) for text in (*example.references, *example.contexts))
        + num_answers * max_answer_tokens
        + RUBRIC_TOKENS
        for example in examples
    )
    num = len(examples) * num_orders
    return _priced(judge.price, num, shown * num_orders, num * judge.sampling.max_tokens)


def total(outcomes: Iterable[Outcome]) -> Usage:
    """What outcomes took together in this run: those that were taken from an earlier one cost nothing.

    The latency is None: of answers that are given at the same time a sum means nothing.
    """
    found = Usage()
    for outcome in outcomes:
        if not (isinstance(outcome, Answer | Likelihoods | Ranking) and outcome.cached):
            found = add(found, outcome.usage)
    return found


def add(first: Usage, second: Usage) -> Usage:
    """Tokens and dollars of both, without times."""
    return replace(
        first,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        usd=None if first.usd is None and second.usd is None else (first.usd or 0.0) + (second.usd or 0.0),
        latency_s=None,
        ttft_s=None,
    )


def _priced(price: PriceConfig, num: int, read: int, said: int) -> Estimate:
    usd = price_of(price, prompt_tokens=read, completion_tokens=said)
    return Estimate(num_questions=num, prompt_tokens=read, completion_tokens=said, usd=usd)


def _prompt_tokens(question: Question, count_tokens: CountTokens) -> int:
    if isinstance(question, Chat):
        said = [_text(message.get("content")) for message in question.messages]
        shown = [json.dumps(each) for each in (*question.tools, question.json_schema) if each]
        return sum(count_tokens(text) for text in (*said, question.prompt or "", *shown))
    if isinstance(question, Continuations):
        return sum(count_tokens(context + continuation) for context, continuation in question.pairs)
    return count_tokens(question.text)


def _max_answer(question: Question, sampling: SamplingConfig) -> int:
    if isinstance(question, Continuations | WholeText | Query):
        return 0
    return sampling.max_tokens if question.max_tokens is None else question.max_tokens


def _text(content: object) -> str:
    """Of a message: a text, or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
