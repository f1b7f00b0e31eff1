"""What answers took: time, tokens, money."""

from __future__ import annotations

from abc import ABC, abstractmethod

from genai.config.eval import DatasetKind
from genai.errors import UsageError
from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.metrics.base import unfit
from genai.evaluation.records import Answer, Example, Failure, Outcome, Score, Unscored, Usage
from genai.metrics import aggregates


class UsageMetric(ABC):
    """A metric of what an outcome took; the figure is its mean."""

    name: str
    what: str
    """In one sentence, for the list of metrics."""
    kinds: tuple[DatasetKind, ...] = (
        "generation", "classification", "text", "multiple_choice", "language_modeling", "schema", "retrieval"
    )  # fmt: skip
    """Of data sets that it can be measured on."""
    looks_at: OutcomeKind = "any"
    higher_is_better: bool = False
    unit: str
    unknown: str
    """Why an outcome does not tell."""

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """What one outcome took; where it does not tell, it is left unscored."""
        if isinstance(outcome, Failure):
            return unfit("outcomes", outcome)
        value = self.of_usage(outcome.usage)
        return Unscored(reason=self.unknown) if value is None else Score(parts=(value,), value=value)

    @abstractmethod
    def of_usage(self, usage: Usage) -> float | None:
        """The figure; None where it is not known."""

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The weighted mean."""
        return aggregates.mean(parts_NP, weights_RN)


class TimeMetric(UsageMetric):
    """A time that a share of the outcomes does not exceed.

    Args:
        percentile: of the outcomes, above 0 and at most 100.
    """

    unit = "s"
    unknown = "its time was not measured: it was logged, or taken from an earlier run"

    def __init__(self, *, percentile: float = 95.0) -> None:
        if not 0 < percentile <= 100:
            raise UsageError(
                f"metric '{self.name}' has percentile {percentile:g}", fix="write one above 0 and at most 100"
            )
        self.percentile = percentile
        self._aggregate = aggregates.quantile(percentile / 100)

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The percentile."""
        return self._aggregate(parts_NP, weights_RN)


class Latency(TimeMetric):
    """From sending a request to the last token."""

    name = "latency_s"
    what = "time from the request to the last token, which 95 % of the outcomes (percentile) do not exceed"

    def of_usage(self, usage: Usage) -> float | None:
        """Seconds."""
        return usage.latency_s


class TimeToFirstToken(TimeMetric):
    """From sending a request to the first token."""

    name = "ttft_s"
    what = "time from the request to the first token, which 95 % of the answers (percentile) do not exceed"
    kinds = ("generation", "classification")
    unknown = "the time to its first token was not measured: ask the endpoint for a stream (stream: true)"

    def of_usage(self, usage: Usage) -> float | None:
        """Seconds."""
        return usage.ttft_s


class OutputTokens(UsageMetric):
    """The length of an answer."""

    name = "output_tokens"
    what = "tokens an answer, on average"
    kinds = ("generation", "classification")
    unit = "tokens"
    unknown = "the target did not say how many tokens it has"

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """The number of tokens; none at all of an answer that has text says that nobody counted."""
        said_something = isinstance(outcome, Answer) and bool(outcome.text or outcome.tool_calls)
        if said_something and not outcome.usage.completion_tokens:
            return Unscored(reason=self.unknown)
        return await super().score(example, outcome)

    def of_usage(self, usage: Usage) -> float:
        """Tokens."""
        return float(usage.completion_tokens)


class Cost(UsageMetric):
    """The price of an outcome, what judges cost left out."""

    name = "cost_usd"
    what = "price an outcome, on average"
    unit = "usd"
    unknown = "no price is known: set target.price"

    def of_usage(self, usage: Usage) -> float | None:
        """US dollars."""
        return usage.usd
