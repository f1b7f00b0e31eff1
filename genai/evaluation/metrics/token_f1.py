"""How many words an answer and a reference share."""

from __future__ import annotations

from genai.evaluation.metrics.base import ReferenceMetric
from genai.metrics import text as texts


class TokenF1(ReferenceMetric):
    """F1 of the words of answer and reference, as in SQuAD: case, punctuation and articles make no difference.

    Args:
        ignore_case: capital letters make no difference.
        ignore_punctuation: punctuation and the articles of English make no difference.
        pattern: see `TextMetric`.
    """

    name = "token_f1"
    what = "F1 of the words that answer and reference share, as in SQuAD"

    def __init__(
        self, *, ignore_case: bool = True, ignore_punctuation: bool = True, pattern: str | None = None
    ) -> None:
        super().__init__(pattern=pattern)
        self._ignore_case = ignore_case
        self._ignore_punctuation = ignore_punctuation

    def compare(self, text: str, reference: str) -> float:
        """Between 0 and 1."""
        return texts.token_f1(self._normal(text), self._normal(reference))

    def _normal(self, text: str) -> str:
        return texts.normalise(text, ignore_case=self._ignore_case, ignore_punctuation=self._ignore_punctuation)
