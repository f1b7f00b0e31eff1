"""Whether a model would have said the continuation itself."""

from __future__ import annotations

from genai.evaluation.metrics.base import LikelihoodMetric
from genai.evaluation.records import Example, Likelihoods, Score


class LmAccuracy(LikelihoodMetric):
    """1 where each token of the continuation is the likeliest one, as llm-foundry and LAMBADA count."""

    name = "lm_accuracy"
    what = "share of continuations whose every token is the model's likeliest"
    kinds = ("language_modeling",)

    def of_likelihoods(self, example: Example, likelihoods: Likelihoods) -> Score:
        """1 or 0."""
        value = float(likelihoods.each[0].is_greedy)
        return Score(parts=(value,), value=value)
