"""Examples and outcomes for tests of metrics, and a metric's figure over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from genai.config.eval import DatasetKind, MetricConfig
from genai.evaluation.interfaces import Metric
from genai.evaluation.metrics.registry import open_metric
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Likelihood,
    Likelihoods,
    Outcome,
    Query,
    Score,
    Unscored,
    WholeText,
)


def metric_of(name: str, kind: DatasetKind = "generation", **settings: Any) -> Metric:
    """As a job file opens it."""
    return open_metric(MetricConfig(name=name, **settings), judges={}, kind=kind)


def answered(*references: str, kind: DatasetKind = "generation", **chat: Any) -> Example:
    """A row whose right answers are these."""
    question = Chat(prompt="?", **chat)
    return Example(id="1", dataset="faq", kind=kind, question=question, references=references)


def chosen_among(*choices: str, gold: int | None, kind: DatasetKind = "multiple_choice") -> Example:
    """A row with choices, each of which a blank divides from the question."""
    pairs = tuple(("Question?", f" {choice}") for choice in choices)
    return Example(id="1", dataset="quiz", kind=kind, question=Continuations(pairs=pairs), gold=gold)


def whole(text: str) -> Example:
    """A text whose likelihood is wanted."""
    return Example(id="1", dataset="books", kind="text", question=WholeText(text=text))


def searched(**relevant: float) -> Example:
    """A query with its relevant documents."""
    return Example(id="1", dataset="search", kind="retrieval", question=Query(text="?", k=10), relevant=relevant)


def likelihoods(*logprobs: float, num_tokens: int = 1, is_greedy: bool = False) -> Likelihoods:
    """One for each continuation."""
    return Likelihoods(
        each=tuple(Likelihood(logprob=each, num_tokens=num_tokens, is_greedy=is_greedy) for each in logprobs)
    )


def score_of(metric: Metric, example: Example, outcome: Outcome | str) -> Score | Unscored:
    """What a metric says of one example; a text is an answer."""
    if isinstance(outcome, str):
        outcome = Answer(text=outcome)
    return asyncio.run(metric.score(example, outcome))


def value_of(metric: Metric, example: Example, outcome: Outcome | str) -> float:
    """The value of one example, which must be scored."""
    score = score_of(metric, example, outcome)
    assert isinstance(score, Score), score
    assert score.value is not None
    return score.value


def reason_of(metric: Metric, example: Example, outcome: Outcome | str) -> str:
    """Why one example is not scored."""
    score = score_of(metric, example, outcome)
    assert isinstance(score, Unscored), score
    return score.reason


def figure_of(metric: Metric, scores: Sequence[Score | Unscored], weights: Sequence[float] | None = None) -> float:
    """The figure over examples, all of which must be scored."""
    parts_NP = np.array([score.parts for score in scores if isinstance(score, Score)])
    assert len(parts_NP) == len(scores)
    weights_RN = np.ones((1, len(scores))) if weights is None else np.array([weights])
    return float(metric.aggregate(parts_NP, weights_RN)[0])
