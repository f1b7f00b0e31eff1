"""Metadata values: of which type a column is, and every value as that type."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from genai.config.index import ColumnType
from genai.errors import DataError

Value = str | int | float | bool | list[str]
"""What an index stores of a column."""
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_LARGEST = 2**63
_EXAMPLES: dict[ColumnType, str] = {
    "keyword": "a text or a list of texts",
    "integer": "a whole number",
    "float": "a number",
    "boolean": "true or false",
    "datetime": "a time such as 2024-05-01T12:00:00Z",
}
_DELTA_TYPES: dict[str, ColumnType] = {
    **dict.fromkeys(("byte", "short", "integer", "long"), "integer"),
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys(("date", "timestamp", "timestamp_ntz"), "datetime"),
    "string": "keyword",
    "boolean": "boolean",
}


def convert(value: Any, kind: ColumnType, name: str) -> Value | None:
    """`value` as the type of its column.

    Args:
        value: as the table has it.
        kind: the column's type.
        name: of the column, for the error.

    Returns:
        None where there is nothing: null, NaN, and an empty text where the type is no text.

    Raises:
        DataError: it is nothing of the kind.
    """
    try:
        return None if _is_nothing(value, kind) else _CONVERTERS[kind](value)
    except (ValueError, TypeError, ArithmeticError) as error:
        message = f"'{name}' is {_shown(value)}, not {_EXAMPLES[kind]}"
        raise DataError(message, fix=f"declare another type: metadata: {{{name}: ...}}") from error


def type_of_delta(delta_type: str) -> ColumnType | None:
    """The type of a column of a Delta table, None where no filter could use it.

    Args:
        delta_type: in Delta's words, or as JSON.
    """
    if delta_type.startswith("decimal"):
        return "float"
    if delta_type.startswith("{"):
        return "keyword" if json.loads(delta_type).get("elementType") == "string" else None
    return _DELTA_TYPES.get(delta_type)


def type_of_values(values: Sequence[Any], *, as_text: bool) -> ColumnType | None:
    """The type that all of some values have, None where there are none or they agree on nothing.

    Args:
        values: of one column; null ones do not count.
        as_text: whether they are texts because their file knows nothing else, as in CSV.
    """
    there = [value for value in values if value is not None and value != ""]
    if not there:
        return None
    if as_text:
        return next(kind for kind, fits in _TEXTS.items() if all(map(fits, there)))
    return next((kind for kind, types in _PYTHON_TYPES.items() if all(_is_a(value, types) for value in there)), None)


def _is_nothing(value: Any, kind: ColumnType) -> bool:
    is_nan = isinstance(value, float | Decimal) and value != value
    return value is None or is_nan or (kind != "keyword" and isinstance(value, str) and not value.strip())


# --- one converter a type; each raises ValueError, TypeError or an ArithmeticError ------------------------------------


def _keyword(value: Any) -> str | list[str]:
    if isinstance(value, list | tuple):
        return [_word(item) for item in value if item is not None]
    return _word(value)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str | int | float | Decimal | UUID):
        return str(value)
    raise TypeError(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(value)
    number = int(value)
    if (not isinstance(value, str) and number != value) or not -_LARGEST <= number < _LARGEST:
        raise ValueError(value)
    return number


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _boolean(value: Any) -> bool:
    word = str(value).strip().lower()
    if isinstance(value, bool | int | str) and word in (*_TRUE, *_FALSE):
        return word in _TRUE
    raise TypeError(value)


def _datetime(value: Any) -> float:
    """Seconds since 1970; a time without a zone is UTC, a number is taken as such seconds."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return _float(value)


_CONVERTERS: dict[ColumnType, Callable[[Any], Value]] = {
    "keyword": _keyword,
    "integer": _integer,
    "float": _float,
    "boolean": _boolean,
    "datetime": _datetime,
}


# --- guesses ----------------------------------------------------------------------------------------------------------

_PYTHON_TYPES: dict[ColumnType, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "float": (int, float, Decimal),
    "datetime": (date, datetime),
    "keyword": (str, list, UUID),
}


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, list):
        return list in types and all(isinstance(item, str) for item in value)
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _reads_as(kind: ColumnType) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            value = _CONVERTERS[kind](text)
        except (ValueError, TypeError):
            return False
        # 01234 is a postcode, 1_000 is no number that a spreadsheet writes
        return kind != "integer" or str(value) == text

    return fits


_TEXTS: Mapping[ColumnType, Callable[[str], bool]] = {
    "integer": _reads_as("integer"),
    "float": lambda text: _reads_as("float")(text) and (not text.startswith("0") or text[1:2] in ("", ".")),
    "boolean": lambda text: text.strip().lower() in ("true", "false"),
    "datetime": lambda text: len(text) >= len("2024-05-01") and "-" in text and _reads_as("datetime")(text),
    "keyword": lambda text: True,
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
