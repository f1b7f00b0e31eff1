"""win_rate: a judge sees the answers of target and baseline side by side."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from genai.config.eval import DatasetKind
from genai.errors import UsageError
from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.judges.judge import Judge, Request, Verdict
from genai.evaluation.judges.judged_metric import PROBE
from genai.evaluation.judges.pairwise import both_orders, request_of
from genai.evaluation.judges.panel import chosen, score_of
from genai.evaluation.judges.prompting import answer_text, shown_beside
from genai.evaluation.judges.rubrics import open_rubric
from genai.evaluation.records import Answer, Example, Outcome, Score, Unscored
from genai.metrics.aggregates import mean


class WinRate:
    """Share of examples on which the target's answer beats the baseline's; what neither wins counts half.

    Each pair is judged twice, the answers changing places; a verdict that turns with the order counts half, and how
    many did is reported. Answers that are the same are not put to the judge. Meets `Metric` and `PairedMetric`.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
        rubric: what better means: name, file or text.

    Raises:
        UsageError: there is no such judge or rubric, or the rubric says what is bad.
    """

    name: ClassVar[str] = "win_rate"
    what: ClassVar[str] = "share of answers that a judge finds better than the baseline's, asked in both orders"
    kinds: ClassVar[tuple[DatasetKind, ...]] = ("generation", "classification")
    looks_at: OutcomeKind = "answer"
    higher_is_better = True
    unit = ""

    def __init__(
        self,
        *,
        judges: Mapping[str, Judge],
        judge: str | Sequence[str] | None = None,
        rubric: str = "helpfulness",
    ) -> None:
        self.judges = chosen(judges, judge, metric=self.name)
        self.rubric = open_rubric(rubric)
        if not self.rubric.higher_is_better:
            raise UsageError(
                f"rubric '{self.rubric.name}' says what is bad, so that it cannot say which of two answers is better",
                fix="take it for answers one by one: {name: judge, rubric: ...}",
            )

    async def compare(self, example: Example, target: Outcome, baseline: Outcome) -> Score | Unscored:
        """1 the target's is better, 0 the baseline's, 0.5 neither; of several judges the mean.

        Raises:
            GenaiError: a judge's target fails for all questions alike.
        """
        if not isinstance(target, Answer) or not isinstance(baseline, Answer):
            return Unscored(reason="one of the two gave no answer")
        if lacks := self.rubric.lacks(example.references, example.contexts):
            return Unscored(reason=lacks)
        texts = answer_text(example, target), answer_text(example, baseline)
        if texts[0] == texts[1]:
            return Score(parts=(0.5,), value=0.5, note="both answers are the same")

        async def ask(judge: Judge) -> Verdict | Unscored:
            return await both_orders(judge, lambda swapped: self._request(example, *texts, swapped=swapped))

        return await score_of(self.judges, ask)

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """Nothing: an answer alone wins against nobody."""
        return Unscored(reason=f"'{self.name}' compares with a baseline, and there is none")

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The mean; see `Metric`."""
        return mean(parts_NP, weights_RN)

    def only(self, judge: Judge) -> Self:
        """The same metric with one judge, to be calibrated."""
        alone = copy.copy(self)
        alone.judges = (judge,)
        return alone

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the judges and of the very words that they are asked with."""
        request = self._request(PROBE, "They eat honey.", "They eat wax.", swapped=False)
        asked = [[judge.fingerprint, request.messages, request.json_schema] for judge in self.judges]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def _request(self, example: Example, target: str, baseline: str, *, swapped: bool) -> Request:
        first, second = (baseline, target) if swapped else (target, baseline)
        shown = shown_beside(self.rubric, example, example.contexts)
        return request_of(example, shown, first, second, self.rubric)
