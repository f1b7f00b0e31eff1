"""What lm-eval found out about each document, as examples with scores whose statistics can be drawn again.

lm-eval adds the values of a metric up with one of its aggregations. Where a formula over sums is known for one, a
document's value becomes its sufficient statistics, and intervals, slices and comparisons are those of every other
metric. The others (BLEU, chrF, TER, a task's own functions) are computed by lm-eval on documents that are drawn again
here, `NUM_RESAMPLES` times, and have an interval but no comparison.

Source of the formulas: lm_eval/api/metrics.py of 0.4.13.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genai.config.eval import DatasetKind
from genai.evaluation.engines.logged_metric import LoggedMetric
from genai.evaluation.example_hash import hash_of_examples
from genai.evaluation.interfaces import Floats
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Likelihood,
    Likelihoods,
    Measured,
    Outcome,
    Question,
    Score,
    Scored,
    Unscored,
    WholeText,
)
from genai.metrics.aggregates import exp_ratio, mean, ratio

NUM_RESAMPLES = 200
"""For metrics that only lm-eval itself can add up: a BLEU over many documents takes its time."""
_KINDS: Mapping[str, DatasetKind] = {
    "loglikelihood": "language_modeling",
    "multiple_choice": "multiple_choice",
    "loglikelihood_rolling": "text",
    "generate_until": "generation",
}
Aggregation = Callable[[list[Any]], Any]
"""lm-eval's: from the values of all documents to the figure."""


@dataclass(frozen=True, kw_only=True)
class MetricOfTask:
    """A metric of a task of lm-eval's."""

    name: str
    """As lm-eval calls it."""
    aggregation: Aggregation
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class LmEvalTask:
    """A task that lm-eval carried out."""

    name: str
    """As lm-eval calls it; the name of the data set in results and gates."""
    scored: tuple[Scored, ...]
    """Every document, what the model said, and what lm-eval says of that; for reports and for `measuring.measure`."""
    metrics: Mapping[str, LoggedMetric]
    """Label -> metric, for `measuring.measure`; behind a filter of lm-eval's the label is METRIC/FILTER."""
    whole: tuple[Measured, ...] = ()
    """Metrics that cannot be added up from parts, measured."""
    reported: Mapping[str, float] = field(default_factory=dict)
    """Label -> the figure as lm-eval itself printed it; that of `measure` is the same."""

    @property
    def sha256(self) -> str:
        """Of everything that was asked; two runs are compared only where it is the same."""
        return hash_of_examples(each.example for each in self.scored)


def read_task(
    name: str,
    samples: Sequence[Mapping[str, Any]],
    *,
    output_type: str,
    metrics: Mapping[str, MetricOfTask],
    reported: Mapping[str, float],
    target: str,
    seed: int,
    confidence: float,
) -> LmEvalTask:
    """Make examples and metrics of what lm-eval logged about a task.

    Args:
        name: of the task.
        samples: one a document and filter, as `simple_evaluate` logs them.
        output_type: of the task: `multiple_choice`, `generate_until`, ...
        metrics: by name.
        reported: label -> figure.
        target: the name of what was asked.
        seed: of the resamples.
        confidence: of the intervals of metrics that only lm-eval can add up.
    """
    documents = _by_document(samples)
    ids = _ids([filters[0] for filters in documents])
    values = _values(documents, ids)
    labelled = {label: metrics[_metric_of(label)] for label in values if _metric_of(label) in metrics}
    summed = {label: formula for label, each in labelled.items() if (formula := _formula(each, values[label]))}
    scores = {
        label: {id_: formula.score(value) for id_, value in values[label].items()} for label, formula in summed.items()
    }
    scored = tuple(
        Scored(
            example=_example(filters[0], name=name, id_=id_, output_type=output_type),
            outcome=_outcome(filters[0], output_type),
            scores={label: each[id_] for label, each in scores.items() if id_ in each},
        )
        for filters, id_ in zip(documents, ids, strict=True)
    )
    return LmEvalTask(
        name=name,
        scored=scored,
        metrics={label: _logged(labelled[label], formula, scores[label]) for label, formula in summed.items()},
        whole=tuple(
            _whole(each, list(values[label].values()), label, name, target, seed=seed, confidence=confidence)
            for label, each in labelled.items()
            if label not in summed
        ),
        reported=reported,
    )


def label_of(metric: str, filter_name: str) -> str:
    """`acc`, or `exact_match/strict-match` of what a filter left of an answer."""
    return metric if filter_name == "none" else f"{metric}/{filter_name}"


def _metric_of(label: str) -> str:
    return label.partition("/")[0]


# --- formulas ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Formula:
    """How one of lm-eval's aggregations is a function of sums."""

    parts: Callable[[Any], tuple[float, ...]]
    """Of a document's value."""
    aggregate: Callable[[Floats, Floats], Floats]
    shown: Callable[[Any], float]
    """A document's value as a number of its own."""
    fits: Callable[[Any], bool] = lambda value: True
    """Whether a value is one that the formula is for."""

    def score(self, value: Any) -> Score | Unscored:
        """A document's value as a score; what is no number is left out."""
        parts = self.parts(value)
        if any(math.isnan(part) for part in parts):
            return Unscored(reason="lm-eval found no number")
        return Score(parts=parts, value=self.shown(value))


def _f1(parts_NP: Floats, weights_RN: Floats) -> Floats:
    """F1 of the label 1; 0 where nothing is of it and nothing was said to be, as scikit-learn has it."""
    found_R = ratio(parts_NP, weights_RN)
    return np.where(np.isnan(found_R), 0.0, found_R)


def _matthews(parts_NP: Floats, weights_RN: Floats) -> Floats:
    """The correlation of two labels; 0 where one of them is the same everywhere, as scikit-learn has it."""
    both_R, true_R, said_R, all_R = (weights_RN @ column for column in parts_NP.T)
    below_R = np.sqrt(true_R * (all_R - true_R) * said_R * (all_R - said_R))
    above_R = both_R * all_R - true_R * said_R
    found_R: Floats = np.divide(above_R, below_R, out=np.zeros_like(above_R), where=below_R > 0)
    return found_R


def _is_pair_of_bits(value: Any) -> bool:
    return all(each in (0, 1) for each in value)


def _brier(value: Any) -> float:
    gold, probabilities = value
    right = np.eye(len(probabilities))[int(gold)]
    return float(np.sum((np.asarray(probabilities) - right) ** 2))


_FORMULAS: Mapping[str, _Formula] = {
    "mean": _Formula(parts=lambda value: (float(value),), aggregate=mean, shown=float),
    "nanmean": _Formula(parts=lambda value: (float(value),), aggregate=mean, shown=float),
    "perplexity": _Formula(
        parts=lambda value: (-float(value), 1.0), aggregate=exp_ratio, shown=lambda value: _exp(-float(value))
    ),
    "weighted_perplexity": _Formula(
        parts=lambda value: (-float(value[0]), float(value[1])),
        aggregate=exp_ratio,
        shown=lambda value: _exp(-float(value[0]) / float(value[1])),
    ),
    "bits_per_byte": _Formula(
        parts=lambda value: (-float(value[0]), float(value[1]) * math.log(2)),
        aggregate=ratio,
        shown=lambda value: -float(value[0]) / float(value[1]) / math.log(2),
    ),
    "f1_score": _Formula(
        parts=lambda value: (2.0 * (value[0] and value[1]), float(value[0]) + float(value[1])),
        aggregate=_f1,
        shown=lambda value: float(value[0] == value[1]),
        fits=_is_pair_of_bits,
    ),
    "matthews_corrcoef": _Formula(
        parts=lambda value: (float(value[0] and value[1]), float(value[0]), float(value[1]), 1.0),
        aggregate=_matthews,
        shown=lambda value: float(value[0] == value[1]),
        fits=_is_pair_of_bits,
    ),
    "brier_score": _Formula(parts=lambda value: (_brier(value),), aggregate=mean, shown=_brier),
}
"""Name of the function in lm_eval.api.metrics -> its formula."""


def _exp(value: float) -> float:
    """A perplexity; infinite where it is past what a float holds."""
    return math.exp(value) if value < 700 else math.inf


def _formula(metric: MetricOfTask, values: Mapping[str, Any]) -> _Formula | None:
    """Of a metric whose aggregation is lm-eval's own and known; None of any other function."""
    function = metric.aggregation
    if getattr(function, "__module__", "") != "lm_eval.api.metrics":
        return None
    formula = _FORMULAS.get(getattr(function, "__name__", ""))
    return formula if formula is not None and all(formula.fits(value) for value in values.values()) else None


def _logged(metric: MetricOfTask, formula: _Formula, scores: Mapping[str, Score | Unscored]) -> LoggedMetric:
    return LoggedMetric(
        metric.name,
        higher_is_better=metric.higher_is_better,
        scores={id_: score for id_, score in scores.items() if isinstance(score, Score)},
        aggregate=formula.aggregate,
    )


def _whole(
    metric: MetricOfTask, values: list[Any], label: str, task: str, target: str, *, seed: int, confidence: float
) -> Measured:
    """A metric that lm-eval adds up, on all documents and on documents drawn again."""
    chance = np.random.default_rng(seed)
    found = [
        float(metric.aggregation([values[number] for number in chance.integers(len(values), size=len(values))]))
        for _ in range(NUM_RESAMPLES)
    ]
    edge = (1 - confidence) / 2
    low, high = np.quantile(found, (edge, 1 - edge))
    return Measured(
        target=target,
        dataset=task,
        metric=label,
        value=float(metric.aggregation(values)),
        low=float(low),
        high=float(high),
        num=len(values),
        num_clusters=len(values),
        higher_is_better=metric.higher_is_better,
        notes=(f"added up by lm-eval; its interval is that of {NUM_RESAMPLES} resamples, and there is no comparison",),
    )


# --- documents --------------------------------------------------------------------------------------------------------


def _by_document(samples: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The samples of each document, one a filter, in the order of the documents."""
    documents: dict[int, list[Mapping[str, Any]]] = {}
    for sample in samples:
        documents.setdefault(sample["doc_id"], []).append(sample)
    return [documents[number] for number in sorted(documents)]


def _ids(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """A hash of each document; documents that are alike are numbered."""
    seen: dict[str, int] = {}
    ids = []
    for sample in samples:
        digest = hashlib.sha256(str(sample["doc_hash"]).encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def _values(documents: Sequence[Sequence[Mapping[str, Any]]], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Label -> id -> value, of those documents that have one."""
    values: dict[str, dict[str, Any]] = {}
    for filters, id_ in zip(documents, ids, strict=True):
        for sample in filters:
            for metric in sample["metrics"]:
                values.setdefault(label_of(metric, sample["filter"]), {})[id_] = sample[metric]
    return values


def _example(sample: Mapping[str, Any], *, name: str, id_: str, output_type: str) -> Example:
    gold = sample["target"]
    is_choice = output_type == "multiple_choice"
    return Example(
        id=id_,
        dataset=name,
        kind=_KINDS.get(output_type, "generation"),
        question=_question(sample["arguments"], output_type),
        references=() if is_choice or output_type == "loglikelihood_rolling" else _texts(gold),
        gold=gold if is_choice and isinstance(gold, int) else None,
    )


def _texts(gold: Any) -> tuple[str, ...]:
    return tuple(map(str, gold)) if isinstance(gold, list | tuple) else (str(gold),)


def _question(arguments: Sequence[Sequence[Any]], output_type: str) -> Question:
    if output_type == "loglikelihood_rolling":
        return WholeText(text=str(arguments[0][0]))
    if output_type == "generate_until":
        return Chat(prompt=str(arguments[0][0]))
    return Continuations(pairs=tuple((str(each[0]), str(each[1])) for each in arguments))


def _outcome(sample: Mapping[str, Any], output_type: str) -> Outcome:
    """What the model said; how many tokens that were lm-eval does not log."""
    first = [responses[0] for responses in sample["resps"]]
    if output_type == "generate_until":
        return Answer(text=str(first[0]))
    if output_type == "loglikelihood_rolling":
        return Likelihoods(each=(Likelihood(logprob=float(first[0]), num_tokens=0, is_greedy=False),))
    return Likelihoods(
        each=tuple(
            Likelihood(logprob=float(logprob), num_tokens=0, is_greedy=bool(greedy)) for logprob, greedy in first
        )
    )
