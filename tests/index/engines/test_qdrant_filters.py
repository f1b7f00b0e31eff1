from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.index.engines.qdrant_filters import filter_json, payload_indexes, payload_key, payload_of
from genai.index.filters import All, AnyOf, Compare, Not
from genai.index.interfaces import Spec

SPEC = Spec(index="faq", generation="g1", dimension=2, columns={"a.b": "keyword", "ok": "boolean", "n": "integer"})


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_columns_never_have_the_same_key(one: str, other: str) -> None:
    assert (payload_key(one) == payload_key(other)) is (one == other)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", payload_key(one))


def test_a_column_that_looks_like_a_key_keeps_apart() -> None:
    assert payload_key("topic") == "topic"
    assert payload_key("a.b") == "x-612e62"
    assert payload_key("x-612e62") != "x-612e62"


def test_the_payload_holds_the_declared_columns() -> None:
    payload = {"a.b": ["x", "y"], "ok": True, "n": None, "other": 1, "_tenant": "t"}
    assert payload_of(payload, SPEC) == {"x-612e62": ["x", "y"], "ok": "true"}
    tenants = Spec(index="faq", generation="g1", dimension=2, columns={}, has_tenants=True)
    assert payload_of(payload, tenants) == {"_tenant": "t"}
    assert payload_indexes(SPEC) == {"x-612e62": "keyword", "ok": "keyword", "n": "integer"}
    assert payload_indexes(tenants) == {"_tenant": "tenant"}


EXISTS = {"must_not": [{"is_empty": {"key": "n"}}]}


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("=", 3, [{"key": "n", "match": {"value": 3}}]),
        ("=", 3.5, [{"key": "n", "range": {"gte": 3.5, "lte": 3.5}}]),
        ("=", True, [{"key": "n", "match": {"value": "true"}}]),
        ("!=", "x", [EXISTS, {"must_not": [{"key": "n", "match": {"value": "x"}}]}]),
        ("in", ("x", "y"), [{"key": "n", "match": {"any": ["x", "y"]}}]),
        ("in", (1, 2), [{"key": "n", "match": {"any": [1, 2]}}]),
        ("in", (False,), [{"key": "n", "match": {"any": ["false"]}}]),
        ("in", (0.5,), [{"should": [{"key": "n", "range": {"gte": 0.5, "lte": 0.5}}]}]),
        ("in", (), [{"has_id": []}]),
        ("<=", 3, [{"key": "n", "range": {"lte": 3}}]),
        ("exists", None, [EXISTS]),
    ],
)
def test_a_comparison_in_the_words_of_qdrant(operator: Any, value: Any, expected: list[dict[str, Any]]) -> None:
    assert filter_json(Compare(column="n", operator=operator, value=value)) == {"must": expected}


def test_several_together() -> None:
    one, two = Compare(column="n", operator="=", value=1), Compare(column="n", operator="=", value=2)
    first, second = filter_json(one), filter_json(two)
    assert filter_json(All(filters=(one, two))) == {"must": [first, second]}
    assert filter_json(AnyOf(filters=(one, two))) == {"should": [first, second]}
    assert filter_json(Not(filter=one)) == {"must_not": [first]}
    assert filter_json(AnyOf(filters=())) == {"must": [{"has_id": []}]}
