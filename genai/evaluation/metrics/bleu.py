"""BLEU of translations."""

from __future__ import annotations

import numpy as np

from genai.evaluation.interfaces import Floats
from genai.evaluation.metrics.base import NO_REFERENCE, TextMetric
from genai.evaluation.records import Example, Score, Unscored
from genai.metrics.bleu import TOKENIZERS, Tokenizer, bleu_counts, corpus_bleu


class Bleu(TextMetric):
    """BLEU of all answers as one corpus, all references at once; of a single answer the smoothed one.

    Args:
        tokenize: how texts become words, see `genai.metrics.bleu.TOKENIZERS`.
        ignore_case: capital letters make no difference.
        pattern: see `TextMetric`.
    """

    name = "bleu"
    what = "BLEU of all answers as one corpus; 0 to 1 where sacrebleu prints 0 to 100"
    kinds = ("generation",)

    def __init__(self, *, tokenize: Tokenizer = "13a", ignore_case: bool = False, pattern: str | None = None) -> None:
        super().__init__(pattern=pattern)
        self._words = TOKENIZERS[tokenize]
        self._ignore_case = ignore_case

    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """The counts of one answer as parts."""
        if not example.references:
            return NO_REFERENCE
        texts = [each.lower() if self._ignore_case else each for each in (text, *example.references)]
        answer, *references = map(self._words, texts)
        counts = bleu_counts(answer, references)
        return Score(parts=counts, value=float(corpus_bleu(np.array([counts]), effective_order=True)[0]))

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """BLEU of the corpus, never the mean of texts."""
        return corpus_bleu(weights_RN @ parts_NP)
