"""Two answers side by side, in both orders: models favour what they read first (or last).

Source: Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section 3.4 (position bias; a win
counts only when it holds in both orders).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genai.evaluation.costing import add
from genai.evaluation.judges.criteria import Rubric
from genai.evaluation.judges.judge import Judge, Request, Verdict
from genai.evaluation.judges.prompting import Section, conversation_of, object_schema
from genai.evaluation.judges.verdicts import Opinion, Unreadable, read_choice, text_of
from genai.evaluation.records import Example, Score, Unscored, Usage

_CHOICES = {"A": 1.0, "B": 0.0, "tie": 0.5}
_FORM = '{"reason": "one or two sentences that say why", "better": "A" or "B" or "tie"}'
_TASK = """You are a strict and impartial judge who compares two answers that language models give to the same question.

{criteria}

Hold both answers, ANSWER A and ANSWER B, against this, and say which of them is better; "tie" when neither is. Which \
of them stands first says nothing."""


def request_of(example: Example, shown: Sequence[Section], a: str, b: str, rubric: Rubric) -> Request:
    """Which of two answers is better: an opinion of 1 says A, 0 says B.

    Args:
        example: whose question they answer.
        shown: passages and references, which belong to both.
        a: first answer.
        b: second one.
        rubric: what better means.
    """
    sections = [*shown, ("ANSWER A", a or "(empty)"), ("ANSWER B", b or "(empty)")]
    task = _TASK.format(criteria=rubric.criteria.strip())
    return Request(
        messages=conversation_of(example, sections, task=task, form=_FORM),
        json_schema=object_schema(reason={"type": "string"}, better={"type": "string", "enum": list(_CHOICES)}),
        read=_read,
    )


async def both_orders(judge: Judge, put: Callable[[bool], Request]) -> Verdict | Unscored:
    """A judge's opinion of two answers, asked in both orders at once.

    Args:
        judge: who.
        put: the request; with True the answers change places.

    Returns:
        1 when the first is better in both orders, 0 when the second is, else 0.5; under `details` whether the verdict
        turned with the order, and what it favoured then.

    Raises:
        GenaiError: the judge's target fails for all questions alike.
    """
    straight, swapped = await asyncio.gather(judge.ask(put(False)), judge.ask(put(True)))
    usage = add(straight.usage or Usage(), swapped.usage or Usage())
    if isinstance(straight, Unscored):
        return Unscored(reason=straight.reason, usage=usage)
    if isinstance(swapped, Unscored):
        return Unscored(reason=swapped.reason, usage=usage)
    said, turned_round = straight.opinion.value, swapped.opinion.value
    assert said is not None and turned_round is not None
    opinion = _together(said, 1 - turned_round, straight.opinion.reason, swapped.opinion.reason)
    return Verdict(opinion=opinion, attempts=straight.attempts + swapped.attempts, usage=usage)


def turned_share(scores: Sequence[Score | Unscored]) -> tuple[float, int] | None:
    """Share of verdicts that turned with the order of the answers, and how many verdicts there were.

    Args:
        scores: of `win_rate`.

    Returns:
        None where nothing was compared by a judge.
    """
    turned = [
        said["turned"]
        for score in scores
        if isinstance(score, Score)
        for said in score.details.get("said", {}).values()
        if "turned" in said
    ]
    return (sum(turned) / len(turned), len(turned)) if turned else None


def _together(straight: float, swapped: float, reason: str, other_reason: str) -> Opinion:
    """Args are from the first answer's point of view: 1 it is better, 0 the other one."""
    if straight == swapped:
        return Opinion(value=straight, reason=reason, details={"turned": False})
    turned = {straight, swapped} == {0.0, 1.0}
    details: dict[str, Any] = {"turned": turned}
    if turned:
        details["favours"] = "what stands first" if straight == 1 else "what stands second"
    what = "the verdict turned with the order" if turned else "a tie in one order only"
    return Opinion(value=0.5, reason=f"{what}: {reason} / {other_reason}", details=details)


def _read(said: Mapping[str, Any]) -> Opinion | Unreadable:
    better = read_choice(said["better"], _CHOICES)
    if isinstance(better, Unreadable):
        return better
    return Opinion(value=_CHOICES[better], reason=text_of(said["reason"]))
