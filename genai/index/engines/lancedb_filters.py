"""Filters as SQL conditions for LanceDB, in which null never decides: a comparison with nothing is false."""

from __future__ import annotations

import re
from typing import Any

from genai.index.filters import All, AnyOf, Compare, Filter

TENANT = "_tenant"
_PLAIN = re.compile(r"[a-z][a-z0-9_]*")


def column_name(column: str) -> str:
    """The name that a metadata column has in the table, which needs no quotes and meets no other column."""
    return f"m_{column}" if _PLAIN.fullmatch(column) else f"x_{column.encode().hex()}"


def filter_sql(filter: Filter) -> str:
    """The condition."""
    match filter:
        case Compare():
            return _compare(filter)
        case All():
            return f"({' AND '.join(map(filter_sql, filter.filters))})" if filter.filters else "true"
        case AnyOf():
            return f"({' OR '.join(map(filter_sql, filter.filters))})" if filter.filters else "false"
        case _:
            return f"(NOT {filter_sql(filter.filter)})"


def _compare(compare: Compare) -> str:
    """Columns of text hold lists."""
    name, value = column_name(compare.column), compare.value
    exists = f"{name} IS NOT NULL"
    match compare.operator:
        case "exists":
            return f"({exists})"
        case "in" if not value:
            return "false"
        case "in" if isinstance(value[0], str):
            return f"({exists} AND array_has_any({name}, [{', '.join(map(_literal, value))}]))"
        case "in":
            return f"({exists} AND {name} IN ({', '.join(map(_literal, value))}))"
        case "=" | "!=" if isinstance(value, str):
            negation = "NOT " if compare.operator == "!=" else ""
            return f"({exists} AND {negation}array_has({name}, {_literal(value)}))"
        case _:
            return f"({exists} AND {name} {compare.operator} {_literal(value)})"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value).lower() if isinstance(value, bool) else repr(value)
