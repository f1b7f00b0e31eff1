"""What `genai embed-finetune` hands back: plain data for result.json, the report and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from genai.embedding.tuning.synthetic.drafts import MadeCounts
from genai.report.contents import MetricChange, MovedQuery

__all__ = [
    "EmbedFinetuneResult",
    "MadeCounts",
    "MetricChange",
    "MinedNegatives",
    "MovedQuery",
    "Promotion",
    "SearchResult",
    "TrialResult",
]


@dataclass(frozen=True, kw_only=True)
class MinedNegatives:
    """What mining found."""

    num_negatives: int
    """Of each query."""
    mean_score: float
    """Mean score of the negatives, beside the positives'."""
    mean_positive_score: float
    share_excluded: float
    """Share of the candidates left out as probable answers."""
    share_missing: float
    """Share of the places for which there was none; random passages stand there."""
    times: int
    """How often was mined."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What was decided, and what followed."""

    promoted: bool | None
    """None where no condition was set."""
    reason: str
    """The condition with the figures."""
    registered: str | None = None
    """`NAME@VERSION` in the registry."""
    alias: str | None = None
    """That names it now."""
    index: str | None = None
    """Index that answers with the model now."""
    index_metrics: Mapping[str, tuple[float, float]] | None = None
    """Measure of the index -> before and after."""
    onnx: str | None = None
    """The int8 ONNX file."""
    onnx_metrics: Mapping[str, tuple[float, float]] | None = None
    """Measure -> of the model in float and of the ONNX file."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One trial of `search`."""

    run: str
    """Name of its run."""
    settings: Mapping[str, Any]
    """Key -> value."""
    round: int
    """From 0."""
    max_duration: str
    score: float | None
    """The metric on the validation queries; None where it failed."""
    cpu_s: float
    seconds: float
    fault: str | None = None
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What `search` tried."""

    metric: str
    trials: tuple[TrialResult, ...]
    winner: str
    """Name of the run that has won."""
    config: str
    """Its job file."""
    out_of_time: bool
    """Whether the budget ended it."""


@dataclass(frozen=True, kw_only=True)
class EmbedFinetuneResult:
    """A finished run of `genai embed-finetune`."""

    run: str
    """Name of the run."""
    path: str
    """Its directory."""
    kind: str
    """sentence_encoder or cross_encoder."""
    model: str
    """Folder of the trained model, as sentence-transformers loads it."""
    adapter: str | None
    """Folder of the adapter, where one was trained."""
    report: str
    """The HTML report."""
    num_pairs: int
    """Training pairs."""
    num_passages: int
    """Of the corpus that is searched."""
    num_queries: int
    """Held-out test queries."""
    num_near_duplicates: int
    """Training pairs that were removed because held-out ones resemble them."""
    changes: tuple[MetricChange, ...]
    """On the test queries over the whole corpus."""
    validation: tuple[MetricChange, ...]
    """On the validation queries."""
    forgetting: tuple[MetricChange, ...]
    """On the general set; empty where none was given."""
    shorter: Mapping[int, tuple[MetricChange, ...]]
    """Dimension -> the same with vectors cut to it; empty without matryoshka."""
    won: tuple[MovedQuery, ...]
    lost: tuple[MovedQuery, ...]
    num_won: int
    num_lost: int
    made: MadeCounts | None
    negatives: MinedNegatives | None
    promotion: Promotion
    search: SearchResult | None
    loss_first: float | None
    """Training loss of the first step."""
    loss_last: float | None
    batches: int
    """Optimizer steps."""
    epochs: float
    tokens: int
    """Tokens seen, padding left out."""
    train_s: float
    """Seconds in training steps."""
    train_cpu_s: float
    """CPU-seconds of training, mining included, over all resumes; what a kill threw away is not in it."""
    total_s: float
    """Seconds of the whole job (of its last process, when it was resumed)."""
    pairs_per_s: float
    exact: bool
    """Whether all resumes were bit-equal continuations."""
    inexact_reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EmbedFinetuneResult:
        """What `to_json` gave, after a turn through JSON."""
        made, negatives, search = values["made"], values["negatives"], values["search"]
        return cls(
            **{
                **values,
                **{name: _changes(values[name]) for name in ("changes", "validation", "forgetting")},
                "shorter": {int(size): _changes(changes) for size, changes in values["shorter"].items()},
                **{name: tuple(MovedQuery(**each) for each in values[name]) for name in ("won", "lost")},
                "made": None if made is None else MadeCounts(**made),
                "negatives": None if negatives is None else MinedNegatives(**negatives),
                "promotion": _promotion(values["promotion"]),
                "search": None if search is None else _search(search),
                "inexact_reasons": tuple(values["inexact_reasons"]),
            }
        )


def _changes(values: list[dict[str, Any]]) -> tuple[MetricChange, ...]:
    return tuple(MetricChange(**each) for each in values)


def _promotion(values: dict[str, Any]) -> Promotion:
    pairs = {
        name: None if values[name] is None else {metric: (both[0], both[1]) for metric, both in values[name].items()}
        for name in ("index_metrics", "onnx_metrics")
    }
    return Promotion(**{**values, **pairs})


def _search(values: dict[str, Any]) -> SearchResult:
    return SearchResult(**{**values, "trials": tuple(TrialResult(**trial) for trial in values["trials"])})
