from __future__ import annotations

import pytest
from metric_examples import answered, metric_of, searched, whole

from genai.errors import UsageError
from genai.evaluation.metrics.preparing import prepared
from genai.evaluation.records import Query, WholeText


def test_a_text_is_read_in_the_windows_that_its_metrics_want() -> None:
    metrics = [
        metric_of("perplexity", "text", context=64, stride=32),
        metric_of("bits_per_byte", "text", context=64, stride=32),
        metric_of("word_perplexity", "text"),
        metric_of("latency_s", "text"),
    ]
    (example,) = prepared([whole("abc")], metrics)
    assert example.question == WholeText(text="abc", context=64, stride=32)
    (example,) = prepared([whole("abc")], metrics[2:])
    assert example.question == WholeText(text="abc")


def test_different_windows_of_the_same_texts_are_refused() -> None:
    metrics = [metric_of("perplexity", "text", context=64), metric_of("bits_per_byte", "text", context=32)]
    with pytest.raises(UsageError, match="metrics perplexity, bits_per_byte want different windows"):
        prepared([whole("abc")], metrics)


def test_as_many_documents_are_asked_for_as_a_metric_looks_at() -> None:
    metrics = [metric_of("recall@50", "retrieval"), metric_of("ndcg@10", "retrieval")]
    (example,) = prepared([searched(a=1)], metrics)
    assert example.question == Query(text="?", k=50)
    (example,) = prepared([searched(a=1)], metrics[1:])
    assert example == searched(a=1)


def test_schemas_are_looked_at_before_anything_is_asked() -> None:
    example = answered(json_schema={"type": "strange"})
    assert prepared([example], [metric_of("exact_match")]) == [example]
    with pytest.raises(UsageError, match="the JSON schema is none"):
        prepared([answered(), example], [metric_of("json_valid")])
