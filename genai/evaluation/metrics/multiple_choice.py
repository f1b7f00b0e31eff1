"""Whether the likeliest of several continuations is the right one."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from genai.evaluation.metrics.base import LikelihoodMetric
from genai.evaluation.records import Continuations, Example, Likelihoods, Score, Unscored


class ChoiceMetric(LikelihoodMetric):
    """1 where the choice with the highest likelihood is the right one; of equal ones the first is chosen, as lm-eval
    does.
    """

    def of_likelihoods(self, example: Example, likelihoods: Likelihoods) -> Score | Unscored:
        """The choice, held against the right one."""
        if not isinstance(example.question, Continuations) or example.gold is None:
            return Unscored(reason="the row has no choices with a right one")
        if len(likelihoods.each) != len(example.question.pairs):
            return Unscored(reason=f"{len(likelihoods.each)} likelihoods for {len(example.question.pairs)} choices")
        # what stands between question and choice is not part of the choice, whose length lm-eval counts
        lengths = [self.length(continuation.lstrip()) for _, continuation in example.question.pairs]
        logprobs = [each.logprob for each in likelihoods.each]
        chosen = int(np.argmax([logprob / max(length, 1) for logprob, length in zip(logprobs, lengths, strict=True)]))
        value = float(chosen == example.gold)
        note = "" if value else f"choice {chosen} was likelier than {example.gold}"
        return Score(parts=(value,), value=value, note=note, details={"chosen": chosen, "logprobs": logprobs})

    @abstractmethod
    def length(self, choice: str) -> int:
        """What a logarithmic likelihood is divided by."""


class Accuracy(ChoiceMetric):
    """By likelihood alone: `acc` of lm-eval."""

    name = "acc"
    what = "share of rows whose likeliest choice is the right one, as lm-eval's acc"
    kinds = ("multiple_choice", "schema")

    def length(self, choice: str) -> int:
        """1 for all."""
        return 1


class NormalisedAccuracy(ChoiceMetric):
    """By likelihood a character, so that long choices stand a chance: `acc_norm` of lm-eval."""

    name = "acc_norm"
    what = "acc by likelihood a character of the choice, as lm-eval's acc_norm"
    kinds = ("multiple_choice",)

    def length(self, choice: str) -> int:
        """Characters."""
        return len(choice)


class ByteNormalisedAccuracy(ChoiceMetric):
    """By likelihood a byte: `acc_bytes` of lm-eval."""

    name = "acc_bytes"
    what = "acc by likelihood a byte of the choice, as lm-eval's acc_bytes"
    kinds = ("multiple_choice",)

    def length(self, choice: str) -> int:
        """Bytes in UTF-8."""
        return len(choice.encode("utf-8", "surrogatepass"))
