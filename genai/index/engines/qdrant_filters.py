"""Filters, column names and efforts in the words of Qdrant, which its server and its embedded engine share.

Times are kept as numbers, seconds since 1970, and truth values as the words `true` and `false`: the embedded engine
takes a boolean in a condition for a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from genai.config.index import ColumnType
from genai.index.filters import All, AnyOf, Compare, Filter, held_values
from genai.index.interfaces import Metadata, Spec

TENANT = "_tenant"
DENSE = "dense"
WORDS = "words"
"""Names of the two vectors of a point."""
_OVERSAMPLING, _AT_LEAST = 2.0, 40
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
INDEX_TYPES: Mapping[ColumnType, str] = {
    "keyword": "keyword",
    "integer": "integer",
    "float": "float",
    "boolean": "keyword",
    "datetime": "float",
}
"""Column -> the index over the payload that its conditions need."""
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def oversampling(limit: int) -> float:
    """Vectors are searched rounded to bytes; this many times the limit of them are compared again as they were given.
    Where few are wanted relatively more are compared, as the order of the first ones is what rounding changes.
    """
    return max(_OVERSAMPLING, _AT_LEAST / limit)


def payload_key(column: str) -> str:
    """The key that a column has in Qdrant, where dots and brackets in a key would have a meaning."""
    if _PLAIN.fullmatch(column) and not column.startswith("x-"):
        return column
    return f"x-{column.encode().hex()}"


def payload_indexes(spec: Spec) -> dict[str, str]:
    """Key -> type of all indexes over the payload that the points of a generation need."""
    indexes = {payload_key(column): INDEX_TYPES[kind] for column, kind in spec.columns.items()}
    return {**indexes, **({TENANT: "tenant"} if spec.has_tenants else {})}


def payload_of(payload: Metadata, spec: Spec) -> dict[str, Any]:
    """What Qdrant keeps of a point's payload: the declared columns, by which can be filtered."""
    kept: dict[str, Any] = {}
    for column in [*spec.columns, *([TENANT] if spec.has_tenants else [])]:
        held = held_values(payload, column)
        if held:
            kept[payload_key(column)] = list(held) if len(held) > 1 else _stored(held[0])
    return kept


def filter_json(filter: Filter) -> dict[str, Any]:
    """A filter as in the body of a request to Qdrant.

    Source:
        https://qdrant.tech/documentation/concepts/filtering/
    """
    match filter:
        case Compare():
            return {"must": _compare(filter)}
        case All():
            return {"must": [filter_json(part) for part in filter.filters]}
        case AnyOf() if not filter.filters:
            return {"must": [_NOTHING]}
        case AnyOf():
            return {"should": [filter_json(part) for part in filter.filters]}
        case _:
            return {"must_not": [filter_json(filter.filter)]}


_NOTHING: dict[str, Any] = {"has_id": []}
"""A condition that no point meets."""


def _stored(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _compare(compare: Compare) -> list[dict[str, Any]]:
    key = payload_key(compare.column)
    value = tuple(map(_stored, compare.value)) if compare.operator == "in" else _stored(compare.value)
    exists = {"must_not": [{"is_empty": {"key": key}}]}
    match compare.operator:
        case "exists":
            return [exists]
        case "=":
            return [_equals(key, value)]
        case "!=":
            return [exists, {"must_not": [_equals(key, value)]}]
        case "in" if not value:
            return [_NOTHING]
        case "in" if all(isinstance(item, str) for item in value) or all(isinstance(item, int) for item in value):
            return [{"key": key, "match": {"any": list(value)}}]
        case "in":
            return [{"should": [_equals(key, item) for item in value]}]
        case _:
            return [{"key": key, "range": {_BOUNDS[compare.operator]: value}}]


def _equals(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, float):  # no exact match is offered for these
        return {"key": key, "range": {"gte": value, "lte": value}}
    return {"key": key, "match": {"value": value}}
