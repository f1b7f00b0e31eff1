"""JSON in answers: whether it is any, and which of its fields are right.

Source: RFC 8259 for what is JSON; NaN and Infinity, which Python's reader takes, are not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

_FENCE = re.compile(r"\A\s*```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_MISSING = object()


def read_json(text: str, *, fenced: bool = False) -> Any:
    """The value that a text holds.

    Args:
        text: JSON and nothing else, but for white space around it.
        fenced: it may stand in a Markdown fence (```json ... ```).

    Raises:
        ValueError: it holds none; the message says where it goes wrong.
    """
    if fenced and (match := _FENCE.match(text)):
        text = match[1]
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (line {error.lineno}, column {error.colno})") from None


def same_value(first: Any, second: Any, *, ignore_case: bool = False) -> bool:
    """Whether two JSON values are one: 1 is 1.0 but not true, objects may have their keys in any order.

    Args:
        first, second: what `read_json` gave.
        ignore_case: capital letters make no difference in texts; in keys they always do.
    """
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, int | float) and isinstance(second, int | float):
        return _same_number(first, second)
    if isinstance(first, str) and isinstance(second, str):
        return first == second or (ignore_case and first.casefold() == second.casefold())
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(
            same_value(first[key], second[key], ignore_case=ignore_case) for key in first
        )
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(
            same_value(one, other, ignore_case=ignore_case) for one, other in zip(first, second, strict=True)
        )
    return first is None and second is None


def compare_fields(
    found: Any, wanted: Mapping[str, Any], fields: Sequence[str] | None = None, *, ignore_case: bool = False
) -> dict[str, bool]:
    """Which fields of an object are right.

    Args:
        found: the value of an answer; what is no object has no field right.
        wanted: the reference.
        fields: which are looked at, nested ones as `address.city`; by default the reference's first level. A field
            that the reference does not have is right where the answer does not have it either.
        ignore_case: see `same_value`.

    Returns:
        field -> whether it is right.
    """
    names = tuple(wanted) if fields is None else fields
    return {name: _same_field(_field(found, name), _field(wanted, name), ignore_case=ignore_case) for name in names}


def _field(value: Any, name: str) -> Any:
    """A field by its name, else by the path that its dots make."""
    whole = _at(value, (name,))
    return _at(value, tuple(name.split("."))) if whole is _MISSING else whole


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value


def _same_field(found: Any, wanted: Any, *, ignore_case: bool) -> bool:
    if found is _MISSING or wanted is _MISSING:
        return found is wanted
    return same_value(found, wanted, ignore_case=ignore_case)


def _same_number(first: float, second: float) -> bool:
    if isinstance(first, int) and isinstance(second, int):
        return first == second
    try:
        return math.isclose(first, second, rel_tol=1e-9)
    except OverflowError:  # an integer beyond what a float can hold
        return first == second


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
