"""Values of metadata columns: every type, what cannot be converted, and what the first rows tell."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from genai.errors import DataError
from genai.index.sources.values import convert, type_of_delta, type_of_values

_UUID = UUID("12345678-1234-5678-1234-567812345678")
_NOON = datetime(2024, 5, 1, 12)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("keyword", "floors", "floors"),
        ("keyword", "", ""),
        ("keyword", 7, "7"),
        ("keyword", True, "true"),
        ("keyword", Decimal("1.50"), "1.50"),
        ("keyword", _UUID, str(_UUID)),
        ("keyword", date(2024, 5, 1), "2024-05-01"),
        ("keyword", ["a", None, 3], ["a", "3"]),
        ("keyword", [], []),
        ("integer", 7, 7),
        ("integer", 7.0, 7),
        ("integer", " 7 ", 7),
        ("integer", Decimal(7), 7),
        ("float", 7, 7.0),
        ("float", "1.5", 1.5),
        ("float", Decimal("1.5"), 1.5),
        ("boolean", True, True),
        ("boolean", "False", False),
        ("boolean", 1, True),
        ("boolean", "0", False),
        ("datetime", _NOON, 1714564800.0),
        ("datetime", _NOON.replace(tzinfo=UTC), 1714564800.0),
        ("datetime", _NOON.replace(tzinfo=timezone(timedelta(hours=2))), 1714557600.0),
        ("datetime", "2024-05-01T12:00:00Z", 1714564800.0),
        ("datetime", "2024-05-01", 1714521600.0),
        ("datetime", date(2024, 5, 1), 1714521600.0),
        ("datetime", 1714564800, 1714564800.0),
    ],
)
def test_values(kind: Any, value: object, expected: object) -> None:
    found = convert(value, kind, "column")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("kind", ["keyword", "integer", "float", "boolean", "datetime"])
def test_nothing(kind: Any) -> None:
    assert convert(None, kind, "x") is None
    assert convert(float("nan"), kind, "x") is None
    assert convert(Decimal("nan"), kind, "x") is None
    assert kind == "keyword" or convert("  ", kind, "x") is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("keyword", {"a": 1}),
        ("keyword", [["nested"]]),
        ("keyword", b"bytes"),
        ("integer", True),
        ("integer", 7.5),
        ("integer", "7.5"),
        ("integer", "many"),
        ("integer", float("inf")),
        ("integer", 2**63),
        ("integer", [1]),
        ("float", False),
        ("float", float("inf")),
        ("float", "x"),
        ("boolean", "perhaps"),
        ("boolean", 2),
        ("boolean", 1.0),
        ("datetime", "yesterday"),
        ("datetime", True),
        ("datetime", [1]),
    ],
)
def test_values_that_are_none_of_the_kind(kind: Any, value: object) -> None:
    with pytest.raises(DataError, match=r"^'size' is .*, not .* \(declare another type: metadata: \{size: \.\.\.\}\)$"):
        convert(value, kind, "size")


@pytest.mark.parametrize(
    ("delta_type", "expected"),
    [
        ("string", "keyword"),
        ("byte", "integer"),
        ("long", "integer"),
        ("double", "float"),
        ("decimal(10,2)", "float"),
        ("boolean", "boolean"),
        ("date", "datetime"),
        ("timestamp", "datetime"),
        ("timestamp_ntz", "datetime"),
        ('{"type":"array","elementType":"string","containsNull":true}', "keyword"),
        ('{"type":"array","elementType":"long","containsNull":true}', None),
        ('{"type":"struct","fields":[]}', None),
        ("binary", None),
    ],
)
def test_types_of_delta(delta_type: str, expected: str | None) -> None:
    assert type_of_delta(delta_type) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, None], "boolean"),
        ([1, 2], "integer"),
        ([1, 2.5], "float"),
        ([Decimal(1)], "float"),
        ([date(2024, 5, 1)], "datetime"),
        (["a", None, ""], "keyword"),
        (["a", ["b"]], "keyword"),
        ([_UUID], "keyword"),
        ([True, 1], None),
        ([[1]], None),
        ([{"a": 1}], None),
        ([None, ""], None),
        ([], None),
    ],
)
def test_types_of_values(values: list[object], expected: str | None) -> None:
    assert type_of_values(values, as_text=False) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "-20"], "integer"),
        (["01234", "56789"], "keyword"),
        (["1", "2.5", "1e3"], "float"),
        (["0.5", "0"], "float"),
        (["nan"], "keyword"),
        (["true", "FALSE"], "boolean"),
        (["2024-05-01", "2024-05-01T12:00:00Z"], "datetime"),
        (["20240501"], "integer"),
        (["a", "1"], "keyword"),
        ([None, None], None),
    ],
)
def test_types_of_texts(texts: list[str | None], expected: str | None) -> None:
    assert type_of_values(texts, as_text=True) == expected
