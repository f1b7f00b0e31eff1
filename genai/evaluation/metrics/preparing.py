"""What metrics want of the questions before they are put: windows of texts, enough documents, sound schemas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from genai.errors import UsageError
from genai.evaluation.interfaces import Metric
from genai.evaluation.metrics.json_valid import JsonValid
from genai.evaluation.metrics.perplexity import WindowedMetric
from genai.evaluation.metrics.ranking import RankingMetric
from genai.evaluation.records import Example, Query, Question, WholeText


def prepared(examples: Sequence[Example], metrics: Sequence[Metric]) -> list[Example]:
    """The examples with questions that serve all metrics at once; each is still put only once.

    Args:
        examples: of one data set.
        metrics: all those that are measured on it.

    Raises:
        UsageError: two metrics want different windows of the same texts, or a schema is none.
        MissingExtraError: a metric needs a package for these examples that is not installed.
    """
    context, stride = _window(metrics)
    depth = max((metric.depth for metric in metrics if isinstance(metric, RankingMetric)), default=1)
    for metric in metrics:
        if isinstance(metric, JsonValid):
            for example in examples:
                metric.check(example)

    def adapted(question: Question) -> Question:
        if isinstance(question, WholeText) and (context, stride) != (None, None):
            return replace(question, context=context, stride=stride)
        if isinstance(question, Query) and question.k < depth:
            return replace(question, k=depth)
        return question

    return [replace(example, question=adapted(example.question)) for example in examples]


def _window(metrics: Sequence[Metric]) -> tuple[int | None, int | None]:
    """The one window that all metrics of whole texts want; those that name none take that of the others."""
    wanted = {
        (metric.context, metric.stride): metric.name
        for metric in metrics
        if isinstance(metric, WindowedMetric) and (metric.context, metric.stride) != (None, None)
    }
    if len(wanted) > 1:
        raise UsageError(
            f"metrics {', '.join(wanted.values())} want different windows of the same texts",
            fix="give them the same context and stride, or name the data set twice",
        )
    return next(iter(wanted), (None, None))
