"""Typed filters on metadata: what a query may ask of the columns, checked against them."""

from __future__ import annotations

import json
import math
import operator as operators
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from genai.config.index import ColumnType
from genai.errors import UsageError
from genai.index.filter_text import Comparison, Node, read_text, read_values
from genai.registry import suggest

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "exists"]
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


@dataclass(frozen=True, kw_only=True)
class Compare:
    """`column operator value`. A point without the column passes none of them; of a list any item may pass (=, in) or
    none (!=).
    """

    column: str
    operator: Operator
    value: Any = None
    """In the column's type; a tuple for `in`, None for `exists`."""


@dataclass(frozen=True, kw_only=True)
class Not:
    """What does not pass a filter."""

    filter: Filter


@dataclass(frozen=True, kw_only=True)
class All:
    """What passes every filter."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, kw_only=True)
class AnyOf:
    """What passes at least one filter."""

    filters: tuple[Filter, ...]


Filter = Compare | Not | All | AnyOf


def held_values(payload: Mapping[str, Any], column: str) -> tuple[Any, ...]:
    """What a point has in a column: nothing, one value, or the items of a list. Null and not-a-number are nothing."""
    value = payload.get(column)
    if isinstance(value, list | tuple):
        return tuple(item for item in value if item is not None)
    return () if value is None or (isinstance(value, float) and not math.isfinite(value)) else (value,)


def passes(filter: Filter, payload: Mapping[str, Any]) -> bool:
    """Whether a point with this payload passes: what all engines must agree with."""
    match filter:
        case Not():
            return not passes(filter.filter, payload)
        case All():
            return all(passes(part, payload) for part in filter.filters)
        case AnyOf():
            return any(passes(part, payload) for part in filter.filters)
        case Compare():
            held = held_values(payload, filter.column)
            if filter.operator == "exists":
                return bool(held)
            if filter.operator == "in":
                return any(value in filter.value for value in held)
            if filter.operator == "!=":
                return bool(held) and filter.value not in held
            if filter.operator == "=":
                return filter.value in held
            return any(_ORDERS[filter.operator](value, filter.value) for value in held)


def parse_filter(
    what: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]], columns: Mapping[str, ColumnType]
) -> Filter:
    """A filter as a user writes it, checked against the declared columns.

    Args:
        what: a text such as `year >= 2020 and topic in floors, walls`, values such as `{"year": {">=": 2020}}` (also as
            a text that begins with `{`), or several of them, which must all hold. `genai.index.filter_text` has both
            grammars.
        columns: name -> type.

    Raises:
        UsageError: it cannot be read, names an unknown column, or compares a column with what it cannot be compared
            with; says where.
    """
    if not isinstance(what, str | Mapping):
        parts = tuple(parse_filter(part, columns) for part in what)
        return parts[0] if len(parts) == 1 else All(filters=parts)
    if isinstance(what, Mapping):
        return _typed(read_values(what), columns)
    return _typed(_read_json(what) if what.lstrip().startswith("{") else read_text(what), columns)


def _read_json(text: str) -> Node:
    try:
        return read_values(json.loads(text))
    except json.JSONDecodeError as error:
        raise UsageError(f"no valid JSON: {error}", where=f"filter {text!r}") from None
    except RecursionError:
        raise UsageError("the filter is nested too deep", where="filter") from None


def _typed(node: Node, columns: Mapping[str, ColumnType]) -> Filter:
    if isinstance(node, Comparison):
        return _typed_comparison(node, columns)
    parts = tuple(_typed(part, columns) for part in node.parts)
    if node.kind == "not":
        return Not(filter=parts[0])
    return All(filters=parts) if node.kind == "and" else AnyOf(filters=parts)


def _typed_comparison(node: Comparison, columns: Mapping[str, ColumnType]) -> Compare:
    kind = columns.get(node.column)
    if kind is None:
        near = suggest(node.column, columns)
        known = f"the index has {', '.join(sorted(columns))}" if columns else "the index has no metadata columns"
        raise UsageError(
            f"unknown column {node.column!r}",
            where=node.where,
            fix=f"did you mean {near!r}? {known}" if near else known,
        )
    operator = cast(Operator, node.operator)
    if operator in _ORDERS and kind in ("keyword", "boolean"):
        raise UsageError(
            f"{node.column!r} is a {kind} column, which has no order",
            where=node.where,
            fix="use =, !=, in or exists" + ("" if kind == "boolean" else ", or declare the column with another type"),
        )
    value: Any = None
    if operator == "in":
        value = tuple(_convert(item, kind, node) for item in node.value)
    elif operator != "exists":
        value = _convert(node.value, kind, node)
    return Compare(column=node.column, operator=operator, value=value)


def _convert(value: Any, kind: ColumnType, node: Comparison) -> Any:
    try:
        converted = _CONVERT[kind](value, node.is_text)
    except (ValueError, OverflowError):
        converted = None
    if converted is None:
        raise UsageError(
            f"{value!r} is no {_IN_WORDS[kind]}, which the {kind} column {node.column!r} is compared with",
            where=node.where,
        )
    return converted


def _to_keyword(value: Any, is_text: bool) -> str | None:
    return value if isinstance(value, str) else None


def _to_integer(value: Any, is_text: bool) -> int | None:
    if is_text and not re.fullmatch(r"[+-]?[0-9]{1,19}", value):
        return None
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return None
    number = int(value) if isinstance(value, str | int | float) and (is_text or not isinstance(value, str)) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _to_float(value: Any, is_text: bool) -> float | None:
    if not is_text and (isinstance(value, bool) or not isinstance(value, int | float)):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _to_boolean(value: Any, is_text: bool) -> bool | None:
    if is_text:
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _to_datetime(value: Any, is_text: bool) -> float | None:
    """Seconds since 1970; a time without a zone is meant in UTC."""
    if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+\.[0-9]+|[+-]?[0-9]{9,}", value):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return _to_float(value, isinstance(value, str))


_CONVERT: Mapping[ColumnType, Callable[[Any, bool], Any]] = {
    "keyword": _to_keyword,
    "integer": _to_integer,
    "float": _to_float,
    "boolean": _to_boolean,
    "datetime": _to_datetime,
}
_IN_WORDS: Mapping[ColumnType, str] = {
    "keyword": "text",
    "integer": "whole number",
    "float": "number",
    "boolean": "true or false",
    "datetime": "time such as 2024-05-31 or 2024-05-31T12:00:00Z",
}
