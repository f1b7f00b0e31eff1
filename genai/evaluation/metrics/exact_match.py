"""Whether an answer is a reference, letter by letter."""

from __future__ import annotations

from genai.evaluation.metrics.base import ReferenceMetric
from genai.metrics.text import normalise


class ExactMatch(ReferenceMetric):
    """1 where the answer is one of the references; white space at the ends and its length make no difference.

    Args:
        ignore_case: nor do capital letters.
        ignore_punctuation: nor do punctuation and the articles of English.
        pattern: see `TextMetric`.
    """

    name = "exact_match"
    what = "share of answers that are a reference, letter by letter"

    def __init__(
        self, *, ignore_case: bool = False, ignore_punctuation: bool = False, pattern: str | None = None
    ) -> None:
        super().__init__(pattern=pattern)
        self._ignore_case = ignore_case
        self._ignore_punctuation = ignore_punctuation

    def compare(self, text: str, reference: str) -> float:
        """1 or 0."""
        return float(self._normal(text) == self._normal(reference))

    def _normal(self, text: str) -> str:
        return normalise(text, ignore_case=self._ignore_case, ignore_punctuation=self._ignore_punctuation)
