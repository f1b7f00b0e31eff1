"""What reports of evaluations are made from: plain data that a job fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from genai.report.contents import Report

Verdict = Literal["won", "lost", "tied"]


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """A condition, held against what was measured."""

    gate: str
    """As it was written."""
    target: str
    passed: bool
    reason: str
    """In figures."""


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """A metric on the rows of one slice."""

    column: str
    value: str
    num: int
    """Rows that were scored."""
    measured: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class DifferenceRow:
    """A metric beside the baseline's, on the examples that both have a score for."""

    baseline: float
    """The baseline's value on them."""
    value: float
    """The target's."""
    difference: float
    """value - baseline."""
    low: float
    """Ends of its interval."""
    high: float
    p_value: float
    """After correction for the other comparisons."""
    significant: bool
    wins: int
    """Examples on which the target is better."""
    losses: int
    ties: int
    needed: int | None = None
    """Examples that it takes to see a difference of 2 points."""


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """A metric on a data set, of one target."""

    target: str
    dataset: str
    metric: str
    value: float
    low: float
    high: float
    num: int
    """Examples that were scored."""
    num_failed: int = 0
    """Examples without an answer."""
    num_unscored: int = 0
    """Answers that the metric could say nothing of."""
    unit: str = ""
    """s, usd, tokens; empty for shares and scores."""
    higher_is_better: bool = True
    trusted: bool = True
    """False for a judge that was not calibrated, or does not agree with people."""
    notes: Sequence[str] = ()
    slices: Sequence[SliceRow] = ()
    """Worst first."""
    difference: DifferenceRow | None = None


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What the answers of a target, or the verdicts of a judge, took."""

    name: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    """None: no price is known."""


@dataclass(frozen=True, kw_only=True)
class ScoreCell:
    """What a metric says of one answer."""

    value: float | None = None
    """None where only the sum of many means something, or where it says nothing."""
    note: str = ""
    """Why: a judge's reason, the field that is wrong."""
    unscored: str | None = None
    """Why it says nothing."""


@dataclass(frozen=True, kw_only=True)
class AnswerCell:
    """What one target made of an example."""

    target: str
    text: str | None
    """None where there is no answer."""
    error: str | None = None
    """Why there is none."""
    scores: Mapping[str, ScoreCell] = field(default_factory=dict)
    """Metric -> what it says."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Metric -> how this answer stands beside the baseline's."""
    latency_s: float | None = None
    usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExampleCard:
    """An example with all answers to it, side by side."""

    dataset: str
    id: str
    question: str
    expected: Sequence[str] = ()
    """Right answers, any of them."""
    answers: Sequence[AnswerCell] = ()
    """The baseline's first."""
    slices: Mapping[str, str] = field(default_factory=dict)
    """Column -> value."""
    synthetic: bool = False
    """The question was made by a model."""


@dataclass(frozen=True, kw_only=True)
class FaultRow:
    """Examples that have no answer, or no score, for one and the same reason."""

    what: str
    """The target, or the metric."""
    reason: str
    num: int
    examples: Sequence[str] = ()
    """Some of them: `faq 17`."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReport(Report):
    """Everything that `genai.report.evaluation.render_evaluation_report` shows."""

    job: str = "eval"
    """The verb."""
    targets: Sequence[str] = ()
    """Their names; the baseline is none of them."""
    baseline: str | None = None
    """Its name."""
    data: str = ""
    """What was measured on."""
    gates: Sequence[GateRow] = ()
    measures: Sequence[MeasureRow] = ()
    """Of all targets on all data sets; of the baseline where it was measured by itself."""
    averages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Target -> average of a gauntlet -> value."""
    costs: Sequence[CostRow] = ()
    facts_of_data: Mapping[str, str] = field(default_factory=dict)
    """Figures on the data, by name: examples, contamination."""
    failures: Sequence[FaultRow] = ()
    """No answer."""
    unscored: Sequence[FaultRow] = ()
    """An answer, and no score."""
    examples: Sequence[ExampleCard] = ()
    num_examples: int = 0
    """How many there are; the report may show fewer."""


@dataclass(frozen=True, kw_only=True)
class ComparisonReport(Report):
    """Everything that `genai.report.comparison.render_comparison_report` shows: B beside A."""

    job: str = "eval compare"
    """The verb."""
    first: str = ""
    """What A is: its run, and its target where that has several."""
    second: str = ""
    """What B is."""
    measures: Sequence[MeasureRow] = ()
    """Of B, each with its difference from A."""
    left_out: Sequence[str] = ()
    """What was not compared, and why."""
    examples: Sequence[ExampleCard] = ()
    num_examples: int = 0
    """How many there are; the report may show fewer."""
