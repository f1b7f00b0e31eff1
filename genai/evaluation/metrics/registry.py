"""Metrics by the names that job files give them, with the settings that each one knows.

A metric is a class (a plugin's entry point too) whose constructor takes its settings as keywords. Settings of a job
file reach it by name; what the constructor does not name is refused. Beside settings it may name what only this module
knows: `judges` (name -> judge), `kind` (of the data set) and `depth` (the K of recall@K).

Class attributes that are read here: `what` (one sentence), `kinds` (of the data sets it can be measured on; all where
it is missing), `higher_is_better`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from genai.config.eval import DatasetKind, MetricConfig
from genai.errors import UsageError
from genai.evaluation.interfaces import Metric
from genai.registry import Registry, suggest

METRICS: Registry[Callable[..., Metric]] = Registry(
    "metric",
    {
        "acc": "genai.evaluation.metrics.multiple_choice:Accuracy",
        "acc_bytes": "genai.evaluation.metrics.multiple_choice:ByteNormalisedAccuracy",
        "acc_norm": "genai.evaluation.metrics.multiple_choice:NormalisedAccuracy",
        "accuracy": "genai.evaluation.metrics.accuracy:LabelAccuracy",
        "answer_relevance": "genai.evaluation.metrics.rag_answer_relevance:AnswerRelevance",
        "auc": "genai.evaluation.metrics.auc:Auc",
        "bits_per_byte": "genai.evaluation.metrics.perplexity:BitsPerByte",
        "bleu": "genai.evaluation.metrics.bleu:Bleu",
        "byte_perplexity": "genai.evaluation.metrics.perplexity:BytePerplexity",
        "chrf": "genai.evaluation.metrics.chrf:Chrf",
        "citation_correctness": "genai.evaluation.metrics.rag_citation_correctness:CitationCorrectness",
        "classifier": "genai.evaluation.metrics.classifier:Classifier",
        "contains": "genai.evaluation.metrics.contains:Contains",
        "context_precision": "genai.evaluation.metrics.rag_context_precision:ContextPrecision",
        "context_recall": "genai.evaluation.metrics.rag_context_recall:ContextRecall",
        "cost_usd": "genai.evaluation.metrics.usage:Cost",
        "exact_match": "genai.evaluation.metrics.exact_match:ExactMatch",
        "groundedness": "genai.evaluation.metrics.rag_groundedness:Groundedness",
        "hit_rate@K": "genai.evaluation.metrics.ranking:HitRate",
        "json_fields": "genai.evaluation.metrics.json_fields:JsonFields",
        "json_valid": "genai.evaluation.metrics.json_valid:JsonValid",
        "judge": "genai.evaluation.metrics.judge:JudgeMetric",
        "latency_s": "genai.evaluation.metrics.usage:Latency",
        "lm_accuracy": "genai.evaluation.metrics.lm_accuracy:LmAccuracy",
        "macro_f1": "genai.evaluation.metrics.macro_f1:MacroF1",
        "map@K": "genai.evaluation.metrics.ranking:MeanAveragePrecision",
        "mrr@K": "genai.evaluation.metrics.ranking:ReciprocalRank",
        "ndcg@K": "genai.evaluation.metrics.ranking:Ndcg",
        "output_tokens": "genai.evaluation.metrics.usage:OutputTokens",
        "perplexity": "genai.evaluation.metrics.perplexity:Perplexity",
        "precision@K": "genai.evaluation.metrics.ranking:Precision",
        "recall@K": "genai.evaluation.metrics.ranking:Recall",
        "refusal": "genai.evaluation.metrics.refusal:Refusal",
        "rouge1": "genai.evaluation.metrics.rouge:Rouge1",
        "rouge2": "genai.evaluation.metrics.rouge:Rouge2",
        "rougeL": "genai.evaluation.metrics.rouge:RougeL",
        "token_f1": "genai.evaluation.metrics.token_f1:TokenF1",
        "tool_calls": "genai.evaluation.metrics.tool_calls:ToolCalls",
        "toxicity": "genai.evaluation.metrics.toxicity:Toxicity",
        "ttft_s": "genai.evaluation.metrics.usage:TimeToFirstToken",
        "win_rate": "genai.evaluation.metrics.win_rate:WinRate",
        "word_perplexity": "genai.evaluation.metrics.perplexity:WordPerplexity",
    },
    group="genai.metrics",
)
"""Metrics that a job file can name; one that ends in @K takes a number in its place: recall@10."""

KINDS: tuple[DatasetKind, ...] = get_args(DatasetKind)
"""Of data sets."""
_DEFAULTS: dict[DatasetKind, tuple[str, ...]] = {
    "generation": ("exact_match", "token_f1", "latency_s", "output_tokens"),
    "classification": ("accuracy", "macro_f1", "latency_s"),
    "text": ("perplexity", "bits_per_byte", "word_perplexity"),
    "multiple_choice": ("acc", "acc_norm"),
    "language_modeling": ("lm_accuracy", "perplexity"),
    "schema": ("acc",),
    "retrieval": ("recall@10", "ndcg@10", "mrr@10", "latency_s"),
}
_NO_SETTINGS = frozenset({"name", "label", "datasets", "kwargs"})
_SETTINGS = tuple(field.name for field in fields(MetricConfig) if field.name not in _NO_SETTINGS)
"""What a job file can set beside a metric's name."""
_GIVEN = frozenset({"judges", "kind", "depth"})
"""What a constructor may name without it being a setting."""


class Description(NamedTuple):
    """A metric in the list of `genai eval metrics`."""

    name: str
    """recall@K stands for any K."""
    what: str
    """In one sentence."""
    kinds: tuple[DatasetKind, ...]
    """Data sets that it can be measured on."""
    higher: bool
    """Whether more is better."""


def open_metric(config: MetricConfig, *, judges: Mapping[str, Any], kind: DatasetKind) -> Metric:
    """The metric of a job file; nothing is asked or read yet.

    Args:
        config: which one, with its settings.
        judges: name -> judge, for metrics that ask one.
        kind: of the data set it is measured on.

    Raises:
        UsageError: there is none of that name, it cannot be measured on such data, or it does not know a setting.
        MissingExtraError: it needs a package that is not installed.
    """
    key, depth = _split(config.name)
    build = METRICS.get(key)
    kinds = _kinds(build)
    if kind not in kinds:
        raise UsageError(
            f"metric '{config.name}' cannot be measured on data of kind {kind}, only of {_listed(kinds)}",
            fix=f"give it the datasets it belongs to, or take one of {_listed(_known_for(kind))}",
        )
    settings = _checked(config, build)
    given = {"judges": judges, "kind": kind, "depth": depth}
    named = inspect.signature(build).parameters
    metric: Metric = build(**settings, **{name: value for name, value in given.items() if name in named})
    return metric


def kinds_of(name: str) -> tuple[DatasetKind, ...]:
    """The kinds of data sets on which a metric (`token_f1`, `recall@10`) can be measured.

    Raises:
        UsageError: there is none of that name.
    """
    return _kinds(METRICS.get(_split(name)[0]))


def settings_of(name: str) -> tuple[str, ...]:
    """The settings that a metric knows, those under `kwargs` too, as `context` and `stride` of perplexity.

    Raises:
        UsageError: there is none of that name.
    """
    return tuple(_parameters(METRICS.get(_split(name)[0])))


def defaults_for(kind: DatasetKind) -> list[MetricConfig]:
    """What is measured on data of this kind where a job file names no metrics."""
    return [MetricConfig(name=name) for name in _DEFAULTS[kind]]


def describe() -> list[Description]:
    """All metrics that there are, plugins too, sorted by name."""
    return [_described(name) for name in METRICS.names()]


def _described(name: str) -> Description:
    build = METRICS.get(name)
    what = getattr(build, "what", None) or (inspect.getdoc(build) or "").partition("\n")[0]
    return Description(name=name, what=what, kinds=_kinds(build), higher=bool(getattr(build, "higher_is_better", True)))


def _kinds(build: Callable[..., Metric]) -> tuple[DatasetKind, ...]:
    kinds: tuple[DatasetKind, ...] = getattr(build, "kinds", KINDS)
    return kinds


def _known_for(kind: DatasetKind) -> list[str]:
    return [each.name for each in describe() if kind in each.kinds]


def _split(name: str) -> tuple[str, int | None]:
    """`recall@10` is the metric `recall@K` at depth 10."""
    measure, at, k = name.partition("@")
    if f"{measure}@K" not in METRICS.names():
        return name, None
    if not at or not k.isdecimal() or int(k) < 1:
        raise UsageError(f"metric '{name}' looks at the first K documents", fix=f"write it with K: {measure}@10")
    return f"{measure}@K", int(k)


def _parameters(build: Callable[..., Metric]) -> dict[str, inspect.Parameter]:
    """The settings that a constructor names."""
    return {
        name: parameter
        for name, parameter in inspect.signature(build).parameters.items()
        if name not in _GIVEN and parameter.kind is not parameter.VAR_KEYWORD
    }


def _checked(config: MetricConfig, build: Callable[..., Metric]) -> dict[str, Any]:
    """The settings of a config, all of which the constructor knows; those it cannot do without are there."""
    set_here = {name: value for name in _SETTINGS if (value := getattr(config, name)) is not None}
    if twice := sorted(set_here.keys() & config.kwargs.keys()):
        raise _fault(config, f"has {_quoted(twice)} twice", fix="leave out the one under kwargs")
    settings = {**set_here, **config.kwargs}
    parameters = _parameters(build)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(build).parameters.values())
    if (unknown := [name for name in settings if name not in parameters]) and not takes_any:
        near = suggest(unknown[0], parameters)
        knows = f"it knows {_listed(parameters)}" if parameters else "it has none"
        raise _fault(config, f"has no setting {_quoted(unknown)}", fix=f"did you mean '{near}'?" if near else knows)
    needed = [name for name, each in parameters.items() if each.default is each.empty and name not in settings]
    if needed:
        raise _fault(config, f"needs {_quoted(needed)}", fix=f"write {{name: {config.name}, {needed[0]}: ...}}")
    return {name: _converted(config, build, name, value) for name, value in settings.items()}


def _converted(config: MetricConfig, build: Callable[..., Metric], name: str, value: Any) -> Any:
    """A setting as its constructor wants it; fields of `MetricConfig` were checked when the job file was read."""
    if name in _SETTINGS:
        return value
    try:
        return TypeAdapter(_hints(build).get(name, Any)).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise _fault(config, f"cannot take kwargs.{name} = {value!r}: {first}", fix="see genai eval metrics") from error


def _hints(build: Callable[..., Metric]) -> dict[str, Any]:
    if isinstance(build, type):
        return get_type_hints(build.__init__, include_extras=True)  # type: ignore[misc]
    return get_type_hints(build if inspect.isroutine(build) else type(build).__call__, include_extras=True)


def _fault(config: MetricConfig, what: str, *, fix: str) -> UsageError:
    called = config.name if config.label is None else f"{config.name} (label {config.label})"
    return UsageError(f"metric '{called}' {what}", fix=fix)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _listed(names: Any) -> str:
    return ", ".join(names)
