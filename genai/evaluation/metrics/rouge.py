"""ROUGE of summaries."""

from __future__ import annotations

from genai.evaluation.metrics.base import ReferenceMetric
from genai.metrics.rouge import rouge_l, rouge_n, words_of


class Rouge1(ReferenceMetric):
    """F1 of single words. Settings: see `TextMetric`."""

    name = "rouge1"
    what = "ROUGE-1: F1 of the words that answer and reference share"

    def compare(self, text: str, reference: str) -> float:
        """Between 0 and 1."""
        return rouge_n(words_of(text), words_of(reference), 1).f1


class Rouge2(ReferenceMetric):
    """F1 of pairs of words. Settings: see `TextMetric`."""

    name = "rouge2"
    what = "ROUGE-2: F1 of the pairs of words that answer and reference share"

    def compare(self, text: str, reference: str) -> float:
        """Between 0 and 1."""
        return rouge_n(words_of(text), words_of(reference), 2).f1


class RougeL(ReferenceMetric):
    """F1 of the longest common sequence of words. Settings: see `TextMetric`."""

    name = "rougeL"
    what = "ROUGE-L: F1 of the longest sequence of words that answer and reference share, gaps allowed"

    def compare(self, text: str, reference: str) -> float:
        """Between 0 and 1."""
        return rouge_l(words_of(text), words_of(reference)).f1
