"""ChrF of translations."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from genai.evaluation.interfaces import Floats
from genai.evaluation.metrics.base import NO_REFERENCE, TextMetric
from genai.evaluation.records import Example, Score, Unscored
from genai.metrics.chrf import chrf_counts, corpus_chrf


class Chrf(TextMetric):
    """ChrF of all answers as one corpus, each against the reference that it is nearest to.

    Args:
        word_order: runs of up to so many words count too: 2 for chrF++.
        ignore_case: capital letters make no difference.
        pattern: see `TextMetric`.
    """

    name = "chrf"
    what = "chrF of all answers as one corpus (chrF++ with word_order 2); 0 to 1 where sacrebleu prints 0 to 100"
    kinds = ("generation",)

    def __init__(
        self,
        *,
        word_order: Annotated[int, Field(ge=0, le=4)] = 0,
        ignore_case: bool = False,
        pattern: str | None = None,
    ) -> None:
        super().__init__(pattern=pattern)
        self._word_order = word_order
        self._ignore_case = ignore_case

    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """The counts of one answer as parts."""
        if not example.references:
            return NO_REFERENCE
        answer, *references = [each.lower() if self._ignore_case else each for each in (text, *example.references)]
        counts = chrf_counts(answer, references, word_order=self._word_order)
        return Score(parts=counts, value=float(corpus_chrf(np.array([counts]))[0]))

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """ChrF of the corpus, never the mean of texts."""
        return corpus_chrf(weights_RN @ parts_NP)
