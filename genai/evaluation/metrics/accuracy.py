"""Whether an answer is the right label."""

from __future__ import annotations

from genai.evaluation.metrics.base import ReferenceMetric
from genai.metrics.classification import plain_label


class LabelAccuracy(ReferenceMetric):
    """1 where the answer is the label; quotes, Markdown and the full stop that models add make no difference.

    Args:
        ignore_case: nor do capital letters.
        pattern: see `TextMetric`.
    """

    name = "accuracy"
    what = "share of answers that are the right label, whatever quotes and full stops stand around it"

    def __init__(self, *, ignore_case: bool = True, pattern: str | None = None) -> None:
        super().__init__(pattern=pattern)
        self._ignore_case = ignore_case

    def compare(self, text: str, reference: str) -> float:
        """1 or 0."""
        return float(self._label(text) == self._label(reference))

    def _label(self, text: str) -> str:
        return plain_label(text, ignore_case=self._ignore_case)
