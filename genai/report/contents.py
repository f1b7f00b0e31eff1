"""What reports are made from: plain data that a job fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class LossRow:
    """A held-out loss of the before/after table, in nats a trained token."""

    name: str
    """What was measured, e.g. "base", "base with 3 examples in its prompt", "tuned"."""
    loss: float
    """Mean negative log-likelihood of the trained tokens."""


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """One evaluation prompt, answered before and after."""

    prompt: str
    """What was asked."""
    expected: str
    """What the data answers."""
    base: str
    """What the model answered before training."""
    tuned: str
    """What it answers now."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Histogram of the lengths of rows or chunks."""

    edges: Sequence[float]
    """Limits of the bins, one more than there are bins."""
    counts: Sequence[int]
    """How many lie in each bin."""
    max_seq_len: int | None = None
    """Where rows are cut off."""


@dataclass(frozen=True, kw_only=True)
class LabelSample:
    """A training example as the model sees it."""

    title: str
    """Where it comes from, e.g. `data/train.jsonl:12`."""
    tokens: Sequence[tuple[str, bool]]
    """(text, whether the loss is taken on it), in the order of the sequence; a text may be that of several tokens."""
    num_tokens: int | None = None
    """Length of the example."""
    num_trained_tokens: int | None = None
    """Tokens the loss is taken on."""


@dataclass(frozen=True, kw_only=True)
class ProofOutcome:
    """A check made before the first step."""

    name: str
    """What was proven."""
    status: Literal["passed", "failed", "skipped"]
    """How it ended."""
    detail: str = ""
    """The figures, or why it was skipped."""
    time_s: float | None = None
    """Seconds it took; None where the outcome was already known."""


@dataclass(frozen=True, kw_only=True)
class MapPoint:
    """One text on a map on which near texts have a like meaning."""

    x: float
    """To the right."""
    y: float
    """Upwards."""
    title: str
    """Where it comes from."""
    text: str
    """How it begins."""
    group: str = ""
    """Points of a group have a colour."""


@dataclass(frozen=True, kw_only=True)
class DocumentRow:
    """A document of a table of them."""

    name: str
    """Its path or key."""
    detail: str
    """Why it is named."""
    time_s: float | None = None
    """Seconds it took."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every report says; what is empty is left out."""

    run_name: str
    """Name of the run."""
    job: str
    """The verb."""
    status: str = "done"
    """How the run ended."""
    message: str = ""
    """Why, where it did not end well."""
    started_at: str = ""
    """ISO 8601."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """The figures on top, by name."""
    warnings: Sequence[str] = ()
    """What the user should know."""
    config: str = ""
    """The unresolved config, YAML."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Fingerprints of all inputs."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What the job ran on."""


@dataclass(frozen=True, kw_only=True)
class TrainingReport(Report):
    """Everything that `genai.report.training.render_training_report` shows."""

    job: str = "finetune"
    """The verb."""
    model: str = ""
    """The model's reference."""
    data: str = ""
    """What it was trained on."""
    losses: Sequence[LossRow] = ()
    """Before/after table; the first row is what the others are compared with, the last one is the tuned model."""
    metrics: Sequence[Mapping[str, float]] = ()
    """The records of metrics.jsonl."""
    answers: Sequence[AnswerPair] = ()
    """Side by side."""
    data_facts: Mapping[str, str] = field(default_factory=dict)
    """Figures on the data, by name: rows, duplicates, truncation, share of trained tokens."""
    lengths: Lengths | None = None
    """How long the rows are."""
    labels: Sequence[LabelSample] = ()
    """What is trained, token by token."""
    proofs: Sequence[ProofOutcome] = ()
    """Checks before the first step."""


@dataclass(frozen=True, kw_only=True)
class IndexReport(Report):
    """Everything that `genai.report.index.render_index_report` shows."""

    job: str = "index"
    """The verb."""
    source: str = ""
    """What is indexed."""
    model: str = ""
    """The encoder's reference."""
    changes: Mapping[str, str] = field(default_factory=dict)
    """What the sync took over, by name."""
    holds: Mapping[str, str] = field(default_factory=dict)
    """What the index holds now, by name."""
    lengths: Lengths | None = None
    """How long the chunks are, in tokens."""
    points: Sequence[MapPoint] = ()
    """The chunks, or a sample of them, by meaning."""
    points_note: str = ""
    """How the map was made."""
    slowest: Sequence[DocumentRow] = ()
    """Documents that took longest to read."""
    failed: Sequence[DocumentRow] = ()
    """Documents that could not be read."""


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """A measure before and after over the same queries, with the ends of its 95 % intervals."""

    metric: str
    """For example ndcg@10."""
    before: float
    before_low: float
    before_high: float
    after: float
    after_low: float
    after_high: float
    difference: float
    """after - before."""
    low: float
    """Ends of the paired interval of the difference."""
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the difference leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class PairSample:
    """A query with what it is trained on, as the model scores that before training."""

    title: str
    """Where it comes from."""
    query: str
    """What is asked."""
    positive: str
    """The document that answers it."""
    positive_score: float | None
    """None where there is no score."""
    negatives: Sequence[tuple[str, float | None]] = ()
    """(document, score)."""


@dataclass(frozen=True, kw_only=True)
class MovedQuery:
    """A held-out query whose answer moved."""

    query: str
    """What is asked."""
    expected: str
    """The text that answers it."""
    rank_before: int | None
    """Place of that, from 1; None: not among those looked at."""
    rank_after: int | None
    first_before: str
    """The text that was found first."""
    first_after: str


@dataclass(frozen=True, kw_only=True)
class DroppedQuery:
    """A query that was made and not kept."""

    query: str
    """What was made."""
    passage: str
    """Of which text."""
    reason: str
    """Why it is not trained on."""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial of a search for settings."""

    name: str
    """Of its run."""
    settings: Mapping[str, str]
    """Key -> value."""
    round: int
    """From 0."""
    length: str
    """How long it trained."""
    score: float | None
    """None where it failed."""
    time_s: float
    """Seconds it took."""
    fault: str = ""
    """Why it failed."""
    has_won: bool = False
    """Whether its model was taken."""


@dataclass(frozen=True, kw_only=True)
class LeakedPair:
    """A training pair that was left out because a held-out one resembles it."""

    train: str
    """Where it stands."""
    held_out: str
    """Where what it resembles stands."""
    similarity: float
    """1 for equal texts."""
    text: str
    """How it begins."""


@dataclass(frozen=True, kw_only=True)
class RetrievalReport(Report):
    """Everything that `genai.report.retrieval.render_retrieval_report` shows."""

    job: str = "embed-finetune"
    """The verb."""
    model: str = ""
    """The model's reference."""
    data: str = ""
    """What it was trained on."""
    changes: Sequence[MetricChange] = ()
    """Before and after on the test queries; the headline is of ndcg@10 where it is among them, else of the first."""
    num_queries: int = 0
    """They were measured on."""
    shorter: Mapping[int, Sequence[MetricChange]] = field(default_factory=dict)
    """Length of a vector -> the same with vectors cut to it."""
    validation: Sequence[MetricChange] = ()
    """On the validation queries."""
    forgetting: Sequence[MetricChange] = ()
    """On a general set."""
    metrics: Sequence[Mapping[str, float]] = ()
    """The records of metrics.jsonl."""
    trials: Sequence[TrialRow] = ()
    """Of a search, in the order in which they ran."""
    trials_metric: str = ""
    """What they are compared by."""
    won: Sequence[MovedQuery] = ()
    """Queries whose answer moved up."""
    lost: Sequence[MovedQuery] = ()
    """Queries whose answer moved down."""
    num_won: int = 0
    """How many there are."""
    num_lost: int = 0
    """How many there are."""
    data_facts: Mapping[str, str] = field(default_factory=dict)
    """Figures on the data, by name: pairs, documents, held-out queries."""
    made_facts: Mapping[str, str] = field(default_factory=dict)
    """Figures on queries that were made: how many, by what, how many were kept."""
    dropped: Sequence[DroppedQuery] = ()
    """Examples of those that were not."""
    negative_facts: Mapping[str, str] = field(default_factory=dict)
    """Figures on mined negatives."""
    leaked: Sequence[LeakedPair] = ()
    """Training pairs that were left out, or the first of them."""
    num_leaked: int = 0
    """How many there are."""
    samples: Sequence[PairSample] = ()
    """What is trained, pair by pair."""
    proofs: Sequence[ProofOutcome] = ()
    """Checks before the first step."""
    promoted: bool | None = None
    """Whether the condition was met; None where there was none."""
    promotion_reason: str = ""
    """The condition with the figures."""
    followed: Mapping[str, str] = field(default_factory=dict)
    """What followed, by name: registry, index, ONNX file."""
