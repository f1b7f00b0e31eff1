"""F1 of every label, rare ones counting as much as frequent ones."""

from __future__ import annotations

import hashlib

import numpy as np

from genai.evaluation.interfaces import Floats
from genai.evaluation.metrics.base import NO_REFERENCE, TextMetric
from genai.evaluation.records import Example, Score, Unscored
from genai.metrics import aggregates
from genai.metrics.classification import plain_label

_NUMBER_BYTES = 6
"""Labels become numbers of so many bytes, which a float holds exactly; two of 10,000 labels meet once in 5 million."""


class MacroF1(TextMetric):
    """The mean over labels of their F1. Labels are those that the data has: an answer that is none of them is wrong,
    but no label of its own, so that one that rambles does not count a label a word.

    The same as scikit-learn's `f1_score(..., labels=set of the true ones, average="macro")`.

    Args:
        ignore_case: capital letters make no difference.
        pattern: see `TextMetric`.
    """

    name = "macro_f1"
    what = "mean over the data's labels of their F1; of several references the first is the label"
    kinds = ("classification",)

    def __init__(self, *, ignore_case: bool = True, pattern: str | None = None) -> None:
        super().__init__(pattern=pattern)
        self._ignore_case = ignore_case

    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """True label and answer as numbers."""
        if not example.references:
            return NO_REFERENCE
        label, answer = (plain_label(each, ignore_case=self._ignore_case) for each in (example.references[0], text))
        note = "" if label == answer else f"'{answer[:80]}' is not '{label}'"
        return Score(parts=(_number(label), _number(answer)), value=float(label == answer), note=note)

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """Over all examples together."""
        labels_K, true_N = np.unique(parts_NP[:, 0], return_inverse=True)
        places_N = np.minimum(np.searchsorted(labels_K, parts_NP[:, 1]), len(labels_K) - 1)
        predicted_N = np.where(labels_K[places_N] == parts_NP[:, 1], places_N, -1)
        numbers_NP = np.stack([true_N, predicted_N], axis=1).astype(np.float64)
        return aggregates.macro_f1(numbers_NP, weights_RN, num_labels=len(labels_K))


def _number(label: str) -> float:
    """The same in every run, so that runs can be compared."""
    return float(int.from_bytes(hashlib.sha256(label.encode("utf-8", "surrogatepass")).digest()[:_NUMBER_BYTES], "big"))
