"""How well a score tells one label from the others."""

from __future__ import annotations

from genai.config.eval import DatasetKind
from genai.errors import UsageError
from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.metrics.base import NO_REFERENCE, TextMetric, unfit
from genai.evaluation.records import Answer, Continuations, Example, Likelihoods, Outcome, Score, Unscored
from genai.metrics import aggregates
from genai.metrics.classification import log_odds, plain_label, read_number


class Auc(TextMetric):
    """The area under the ROC curve.

    Of classification the score is the number that the answer consists of, the higher the more positive ("how likely is
    it that ...?"); an answer that is no number is left unscored. Of multiple choice it is the log-odds of the positive
    choice against the others.

    Args:
        positive: the label, or the choice, that counts as positive.
        ignore_case: capital letters make no difference in labels.
        pattern: finds the number in the answer; see `TextMetric`.
    """

    name = "auc"
    what = "area under the ROC curve of the number that is the answer, or of the likelihood of a choice"
    kinds: tuple[DatasetKind, ...] = ("classification", "multiple_choice")
    looks_at: OutcomeKind = "any"

    def __init__(self, *, positive: str, ignore_case: bool = True, pattern: str | None = None) -> None:
        super().__init__(pattern=pattern)
        self._ignore_case = ignore_case
        self._positive = self._label(positive)
        if not self._positive:
            raise UsageError("metric 'auc' has an empty label as positive", fix="write positive: LABEL")

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """Whether the row is positive, and how much so the outcome says it is."""
        if isinstance(outcome, Answer):
            return self.of_answer(example, outcome)
        if isinstance(outcome, Likelihoods):
            return self._of_choices(example, outcome)
        return unfit("answers and likelihoods", outcome)

    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """By the number that a text consists of."""
        if not example.references:
            return NO_REFERENCE
        number = read_number(text)
        if number is None:
            return Unscored(reason=f"'{text.strip()[:80]}' is no number")
        return Score(parts=(float(self._label(example.references[0]) == self._positive), number))

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """Over all examples together."""
        return aggregates.auc(parts_NP, weights_RN)

    def _of_choices(self, example: Example, likelihoods: Likelihoods) -> Score | Unscored:
        if not isinstance(example.question, Continuations) or example.gold is None:
            return Unscored(reason="the row has no choices with a right one")
        choices = [self._label(continuation) for _, continuation in example.question.pairs]
        if choices.count(self._positive) != 1 or len(choices) < 2 or len(likelihoods.each) != len(choices):
            return Unscored(reason=f"'{self._positive}' is not one of its {len(choices)} choices")
        positive = choices.index(self._positive)
        odds = log_odds([each.logprob for each in likelihoods.each], positive)
        return Score(parts=(float(example.gold == positive), odds))

    def _label(self, text: str) -> str:
        return plain_label(text, ignore_case=self._ignore_case)
