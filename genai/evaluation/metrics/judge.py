"""judge: a model scores each answer by a rubric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from genai.config.eval import DatasetKind
from genai.evaluation.judges.judge import Judge, Request
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.judges.prompting import (
    Section,
    answer_text,
    conversation_of,
    object_schema,
    shown_beside,
)
from genai.evaluation.judges.rubrics import open_rubric
from genai.evaluation.judges.verdicts import Opinion, Unreadable, read_score, text_of
from genai.evaluation.metrics.win_rate import WinRate
from genai.evaluation.records import Answer, Example, Outcome, Unscored

_FORM = '{"reason": "one or two sentences that say why", "score": SCORE}'
_TASK = "You are a strict and impartial judge of answers that language models give.\n\n{rubric}"
_MAX_ENUM = 100
"""Scores of a longer scale are not listed in the schema."""


class RubricMetric(JudgedMetric):
    """Scores answers on a judge's scale by a rubric, brought to 0..1.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
        rubric: name, file or text; see `genai.evaluation.judges.rubrics`.
    """

    name = "judge"
    what = "a judge's score by a rubric, from 0 to 1"

    def __init__(
        self,
        *,
        judges: Mapping[str, Judge],
        judge: str | Sequence[str] | None = None,
        rubric: str = "correctness",
    ) -> None:
        super().__init__(judges=judges, judge=judge)
        self.rubric = open_rubric(rubric)
        self.higher_is_better = self.rubric.higher_is_better

    def request(self, example: Example, outcome: Outcome, scale: tuple[int, int]) -> Request | Opinion | Unscored:
        """See `JudgedMetric`."""
        if not isinstance(outcome, Answer):
            return Unscored(reason="there is no answer to judge")
        contexts = outcome.contexts or example.contexts
        if lacks := self.rubric.lacks(example.references, contexts):
            return Unscored(reason=lacks)
        sections: list[Section] = [
            *shown_beside(self.rubric, example, contexts),
            ("ANSWER", answer_text(example, outcome) or "(empty)"),
        ]
        task = _TASK.format(rubric=self.rubric.text(scale))
        return Request(
            messages=conversation_of(example, sections, task=task, form=_FORM),
            json_schema=object_schema(reason={"type": "string"}, score=_score_schema(scale)),
            read=lambda said: _read(said, scale),
        )


class _JudgeOrWinRate:
    """Opens the metric `judge`: with `pairwise` it is `win_rate` under another name."""

    what = "a judge's score by a rubric, from 0 to 1; with pairwise: true the share of answers that beat the baseline's"
    kinds: tuple[DatasetKind, ...] = RubricMetric.kinds
    higher_is_better = True

    def __call__(
        self,
        *,
        judges: Mapping[str, Judge],
        judge: str | Sequence[str] | None = None,
        rubric: str | None = None,
        pairwise: bool = False,
    ) -> RubricMetric | WinRate:
        if pairwise:
            return WinRate(judges=judges, judge=judge, rubric=rubric or "helpfulness")
        return RubricMetric(judges=judges, judge=judge, rubric=rubric or "correctness")


JudgeMetric: Final = _JudgeOrWinRate()


def _score_schema(scale: tuple[int, int]) -> dict[str, Any]:
    low, high = scale
    listed = {"enum": list(range(low, high + 1))} if high - low < _MAX_ENUM else {}
    return {"type": "integer", **listed}


def _read(said: Mapping[str, Any], scale: tuple[int, int]) -> Opinion | Unreadable:
    score = read_score(said["score"], scale)
    if isinstance(score, Unreadable):
        return score
    low, high = scale
    return Opinion(value=(score - low) / (high - low), reason=text_of(said["reason"]), details={"score": score})
