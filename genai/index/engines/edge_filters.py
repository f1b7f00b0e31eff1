"""Filters as objects of `qdrant_edge`, made from the JSON form that its server reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai.index.engines.qdrant_filters import filter_json
from genai.index.filters import Filter

if TYPE_CHECKING:
    import qdrant_edge


def edge_filter(filter: Filter | None) -> qdrant_edge.Filter | None:
    """The filter of a query; None where there is none."""
    return None if filter is None else _filter(filter_json(filter))


def _filter(body: dict[str, Any]) -> qdrant_edge.Filter:
    from qdrant_edge import Filter

    clauses: Any = {name: [_condition(part) for part in parts] for name, parts in body.items()}
    return Filter(**clauses)


def _condition(body: dict[str, Any]) -> Any:
    from qdrant_edge import FieldCondition, HasIdCondition, IsEmptyCondition, MatchAny, MatchValue, RangeFloat

    match body:
        case {"is_empty": {"key": key}}:
            return IsEmptyCondition(key)
        case {"has_id": ids}:
            return HasIdCondition(set(ids))
        case {"key": key, "match": {"any": values}}:
            return FieldCondition(key, match=MatchAny(values))
        case {"key": key, "match": {"value": value}}:
            return FieldCondition(key, match=MatchValue(value))
        case {"key": key, "range": bounds}:
            return FieldCondition(key, range=RangeFloat(**bounds))
        case _:
            return _filter(body)
