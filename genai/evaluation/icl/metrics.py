"""How tasks of in-context learning are scored: llm-foundry's accuracies.

    language_modeling              every token of the continuation is the likeliest one
    multiple_choice, schema        the right continuation has the lowest perplexity: the mean of its tokens counts,
                                   where lm-eval's acc takes their sum, and acc_norm divides by characters
    generation_task_with_answers   the answer, cut at its ends and behind its reasoning, begins with a right one

Source: mosaicml/llm-foundry, llmfoundry/eval/metrics/nlp.py; the normalisation of answers is that of TriviaQA's
evaluation (https://github.com/mandarjoshi90/triviaqa).
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Literal

from genai.config.eval import IclTaskConfig, MetricConfig
from genai.errors import UsageError
from genai.evaluation.icl.rows import GENERATION
from genai.evaluation.icl.tasks import kind_of
from genai.evaluation.interfaces import Floats, Metric, OutcomeKind
from genai.evaluation.metrics.registry import open_metric
from genai.evaluation.records import Answer, Example, Failure, Likelihood, Likelihoods, Outcome, Score, Unscored
from genai.metrics.aggregates import mean

ACCURACY = "accuracy"
"""How it is called in results: LABEL/0-shot.accuracy."""
_LIKELIHOODS = ("language_modeling", "multiple_choice", "schema")
_CLASSES: Mapping[str, tuple[str, ...]] = {
    "InContextLearningLMAccuracy": ("language_modeling",),
    "InContextLearningMultipleChoiceAccuracy": ("multiple_choice", "schema"),
    "InContextLearningGenerationExactMatchAccuracy": GENERATION,
    "InContextLearningQAAccuracy": GENERATION,
}
"""llm-foundry's classes (the last one of earlier versions) -> the kinds that they measure."""
_CALIBRATION = "ExpectedCalibrationError"
_PUNCTUATION = frozenset(string.punctuation + "\u2018\u2019\u00b4")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def metrics_of(task: IclTaskConfig) -> dict[str, Metric]:
    """What a task is measured by: label -> metric; by default its accuracy.

    Raises:
        UsageError: a name is none of llm-foundry's or ours, or it does not belong to the kind of the task.
    """
    names = [ACCURACY] if task.metric_names is None else task.metric_names
    metrics: dict[str, Metric] = {}
    for name in names:
        if _is_accuracy(task, name):
            metrics[ACCURACY] = _accuracy(task)
        else:
            metrics[name] = open_metric(MetricConfig(name=name), judges={}, kind=kind_of(task))
    return metrics


def _is_accuracy(task: IclTaskConfig, name: str) -> bool:
    if name.endswith(_CALIBRATION):
        raise UsageError(
            f"task {task.label}: {name} needs the probability of every token, which is not kept",
            fix="leave it out of metric_names",
        )
    if name in _CLASSES and task.icl_task_type not in _CLASSES[name]:
        right = next(name for name, kinds in _CLASSES.items() if task.icl_task_type in kinds)
        raise UsageError(f"task {task.label}: {name} does not measure {task.icl_task_type}", fix=f"write {right}")
    return name == ACCURACY or name in _CLASSES


def _accuracy(task: IclTaskConfig) -> Metric:
    if task.icl_task_type in _LIKELIHOODS:
        return LikelihoodAccuracy("greedy" if task.icl_task_type == "language_modeling" else "lowest_perplexity")
    return GenerationAccuracy(
        cot_delimiter=task.cot_delimiter,
        ends=tuple(task.early_stopping_criteria),
        do_normalization=task.do_normalization,
    )


class _Share:
    """What all accuracies have in common."""

    name = ACCURACY
    higher_is_better = True
    unit = ""

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The share of right ones."""
        return mean(parts_NP, weights_RN)


class LikelihoodAccuracy(_Share):
    """1 where the right continuation is what the model would have said, or the one it finds the most likely.

    Args:
        how: `greedy` looks at one continuation, `lowest_perplexity` compares several.
    """

    looks_at: OutcomeKind = "likelihoods"

    def __init__(self, how: Literal["greedy", "lowest_perplexity"]) -> None:
        self._how = how

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """1 or 0; of several continuations that are alike the first one counts."""
        if isinstance(outcome, Failure):
            return Unscored(reason=outcome.reason)
        if not isinstance(outcome, Likelihoods) or not outcome.each:
            return Unscored(reason="the target told no likelihoods")
        if self._how == "greedy":
            right = float(all(each.is_greedy for each in outcome.each))
            return Score(parts=(right,), value=right)
        perplexities = [-_per_token(each) for each in outcome.each]
        chosen = perplexities.index(min(perplexities))
        right = float(chosen == example.gold)
        return Score(parts=(right,), value=right, details={"chosen": chosen})


def _per_token(likelihood: Likelihood) -> float:
    return likelihood.logprob / max(likelihood.num_tokens, 1)


class GenerationAccuracy(_Share):
    """1 where an answer begins with one of the right ones.

    Args:
        cot_delimiter: what stands between reasoning and the answer proper; empty where there is none.
        ends: texts that end an answer.
        do_normalization: case, punctuation and articles make no difference.
    """

    looks_at: OutcomeKind = "answer"

    def __init__(self, *, cot_delimiter: str, ends: tuple[str, ...], do_normalization: bool) -> None:
        self._cot_delimiter = cot_delimiter
        self._ends = ends
        self._normalise = normalise if do_normalization else str.strip

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """1 or 0; what was compared is shown beside it."""
        if isinstance(outcome, Failure):
            return Unscored(reason=outcome.reason)
        if not isinstance(outcome, Answer):
            return Unscored(reason="the target gave no answer in words")
        answer = self._normalise(self._proper(outcome.text))
        right = float(any(answer.startswith(self._normalise(reference)) for reference in example.references))
        return Score(parts=(right,), value=right, details={"compared": answer})

    def _proper(self, text: str) -> str:
        """The answer up to its end, without the reasoning before it."""
        for end in self._ends:
            text = text.partition(end)[0]
        return text.rpartition(self._cot_delimiter)[2] if self._cot_delimiter else text


def normalise(text: str) -> str:
    """Small letters, without punctuation and English articles, and one space between words."""
    lowered = text.replace("_", " ").lower()
    bare = "".join(" " if letter in _PUNCTUATION else letter for letter in lowered)
    return " ".join(_ARTICLES.sub(" ", bare).split())
