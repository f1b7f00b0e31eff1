"""What most metrics share: they understand one kind of outcome, and their figure is a mean."""

from __future__ import annotations

from abc import ABC, abstractmethod

from genai.config.eval import DatasetKind
from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.patterns import TIME_LIMIT_S, Pattern
from genai.evaluation.records import Answer, Example, Failure, Likelihoods, Outcome, Ranking, Score, Unscored
from genai.metrics import aggregates

_SAID = {Answer: "an answer", Likelihoods: "likelihoods", Ranking: "a ranking", Failure: "a failure"}
NO_REFERENCE = Unscored(reason="the row has no reference")


class AnswerMetric(ABC):
    """A metric of answers."""

    name: str
    what: str
    """In one sentence, for the list of metrics."""
    kinds: tuple[DatasetKind, ...] = ("generation", "classification")
    """Of data sets that it can be measured on."""
    looks_at: OutcomeKind = "answer"
    higher_is_better: bool = True
    unit: str = ""

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """See `of_answer`; any other outcome is left unscored."""
        return self.of_answer(example, outcome) if isinstance(outcome, Answer) else unfit("answers", outcome)

    @abstractmethod
    def of_answer(self, example: Example, answer: Answer) -> Score | Unscored:
        """What it says of one answer."""

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The weighted mean of the only part."""
        return aggregates.mean(parts_NP, weights_RN)


class TextMetric(AnswerMetric):
    """A metric of the texts of answers, or of what a pattern finds in them.

    Args:
        pattern: a regular expression whose first group is the answer proper; an answer without it counts as empty.
    """

    def __init__(self, *, pattern: str | None = None) -> None:
        self._pattern = None if pattern is None else Pattern(pattern)

    def of_answer(self, example: Example, answer: Answer) -> Score | Unscored:
        """See `of_text`."""
        if self._pattern is None:
            return self.of_text(example, answer.text)
        try:
            found = self._pattern.find(answer.text)
        except TimeoutError:
            return Unscored(reason=f"the pattern was not done with the answer within {TIME_LIMIT_S:g} s")
        return self.of_text(example, "" if found is None else found)

    @abstractmethod
    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """What it says of the answer proper."""


class ReferenceMetric(TextMetric):
    """A metric that compares the answer proper with each reference; the best one counts."""

    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """The best value over all references."""
        if not example.references:
            return NO_REFERENCE
        value = max(self.compare(text, reference) for reference in example.references)
        return Score(parts=(value,), value=value)

    @abstractmethod
    def compare(self, text: str, reference: str) -> float:
        """The value for one reference."""


class LikelihoodMetric(ABC):
    """A metric of likelihoods."""

    name: str
    what: str
    """In one sentence, for the list of metrics."""
    kinds: tuple[DatasetKind, ...]
    """Of data sets that it can be measured on."""
    looks_at: OutcomeKind = "likelihoods"
    higher_is_better: bool = True
    unit: str = ""

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """See `of_likelihoods`; any other outcome, and an empty one, is left unscored."""
        if not isinstance(outcome, Likelihoods):
            return unfit("likelihoods", outcome)
        return self.of_likelihoods(example, outcome) if outcome.each else Unscored(reason="there is no likelihood")

    @abstractmethod
    def of_likelihoods(self, example: Example, likelihoods: Likelihoods) -> Score | Unscored:
        """What it says of one row; `likelihoods.each` has one entry at least."""

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The weighted mean of the only part."""
        return aggregates.mean(parts_NP, weights_RN)


def unfit(wanted: str, outcome: Outcome) -> Unscored:
    """For an outcome that a metric does not understand."""
    why = f": {outcome.reason}" if isinstance(outcome, Failure) else ""
    return Unscored(reason=f"it looks at {wanted}, and this is {_SAID[type(outcome)]}{why}")
