"""What an evaluation asks of parts that come from elsewhere, and of its own metrics.

Shapes: N examples, P statistics of each (`Score.parts`), R resamples.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from genai.evaluation.records import Example, Outcome, Question, Score, Unscored

Floats = NDArray[np.float64]
OutcomeKind = Literal["answer", "likelihoods", "ranking", "any"]


class Target(Protocol):
    """What is asked. Used as an async context manager by `running`; `ask` is called many times at once."""

    @property
    def name(self) -> str:
        """In results."""

    @property
    def fingerprint(self) -> str | None:
        """Of everything an answer depends on beside the question (weights, sampling, template); None where nobody can
        tell, as of an endpoint: its answers are then kept for this run alone.
        """

    @property
    def concurrency(self) -> int:
        """Questions that are put at once."""

    async def __aenter__(self) -> Target:
        """Get ready: load weights, open connections."""

    async def __aexit__(self, *error: object) -> None:
        """Let go of everything."""

    async def ask(self, question: Question) -> Outcome:
        """The outcome, or a `Failure`; raises a GenaiError only for what concerns all questions alike (a key that is
        refused, no such model).
        """


class Metric(Protocol):
    """How an outcome is scored, and how the scores of many examples become one figure."""

    @property
    def name(self) -> str:
        """By which job files know it: `token_f1`, `recall@10`."""

    @property
    def looks_at(self) -> OutcomeKind:
        """Which outcomes it understands."""

    @property
    def higher_is_better(self) -> bool:
        """False for perplexity, latency, cost."""

    @property
    def unit(self) -> str:
        """s, usd, tokens; empty for shares and scores."""

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """What it says of one example; never raises for what the outcome holds."""

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The figure over examples, for many weightings at once.

        Args:
            parts_NP: (N, P), `Score.parts` of the examples.
            weights_RN: (R, N), how often each example counts in a resample.

        Returns:
            (R,); nan where a figure cannot be told (a resample without a positive).
        """


class PairedMetric(Protocol):
    """A judge that sees the answers of target and baseline side by side; its figure is the target's share of wins."""

    @property
    def name(self) -> str:
        """`win_rate` or the label of the judge."""

    async def compare(self, example: Example, target: Outcome, baseline: Outcome) -> Score | Unscored:
        """1 the target's is better, 0 the baseline's, 0.5 neither, or the verdict turned with the order."""
