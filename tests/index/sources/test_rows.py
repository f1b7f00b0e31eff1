"""Rows as documents: keys, texts, metadata and the version of each."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from genai.errors import DataError
from genai.index.interfaces import Document
from genai.index.sources.rows import RowShape, check_keys, key_text

SHAPE = RowShape(key="id", text=("title", "body"), metadata={"n": "integer", "when": "datetime"}, tenant=None)
ROW = {"id": 7, "title": "Screed", "body": "40 mm", "n": 3, "when": datetime(2024, 5, 1, tzinfo=UTC), "other": object()}


def test_a_document() -> None:
    assert SHAPE.columns == ("id", "title", "body", "n", "when")
    assert SHAPE.document(ROW, "delta:faq") == Document(
        key="7",
        text="Screed\n\n40 mm",
        metadata={"n": 3, "when": 1714521600.0},
        tenant=None,
        source="delta:faq[7]",
    )


def test_what_is_null_is_left_out() -> None:
    document = SHAPE.document({"id": "a", "title": None, "body": "b", "n": None}, "t")
    assert (document.text, document.metadata) == ("b", {})
    assert SHAPE.document({"id": "a"}, "t").text == ""


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        ({"other": 1}, False),
        ({"n": 3.0}, False),
        ({"n": "3"}, False),
        ({"when": "2024-05-01"}, False),
        ({"when": date(2024, 5, 1)}, False),
        ({"title": "Floor"}, True),
        ({"n": 4}, True),
        ({"n": None}, True),
        ({"title": "Screed\n\n40 mm", "body": None}, False),
    ],
)
def test_the_version_changes_with_what_is_used(change: dict[str, Any], is_new: bool) -> None:
    assert (SHAPE.change({**ROW, **change}, "t").version != SHAPE.change(ROW, "t").version) is is_new


def test_a_row_that_cannot_be_used_says_so_when_it_is_wanted() -> None:
    change = SHAPE.change({**ROW, "n": "many"}, "delta:faq")
    assert (change.key, change.kind) == ("7", "upsert")
    assert change.load is not None
    with pytest.raises(DataError, match=r"^delta:faq\[7\]: 'n' is 'many', not a whole number"):
        change.load()
    other = SHAPE.change({**ROW, "n": "few"}, "delta:faq")
    assert other.version != change.version
    with pytest.raises(DataError, match="'body' is bytes, not a text"):
        SHAPE.document({**ROW, "body": b"x"}, "t")


def test_tenants() -> None:
    shape = RowShape(key="id", text=("t",), metadata={}, tenant="org")
    assert shape.columns == ("id", "t", "org")
    assert shape.document({"id": 1, "t": "x", "org": 5}, "t").tenant == "5"
    assert shape.change({"id": 1, "t": "x", "org": "a"}, "t") != shape.change({"id": 1, "t": "x", "org": "b"}, "t")
    for nobody in (None, "", ["a"]):
        with pytest.raises(DataError, match="'org' does not say whom the row belongs to"):
            shape.document({"id": 1, "t": "x", "org": nobody}, "t")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "7"),
        ("a b", "a b"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Decimal("10.50"), "10.50"),
        (date(2024, 5, 1), "2024-05-01"),
        (None, None),
        ("", None),
    ],
)
def test_keys(value: object, expected: str | None) -> None:
    assert key_text(value) == expected


@pytest.mark.parametrize("value", [1.5, True, b"x", ["a"]])
def test_values_that_are_no_keys(value: object) -> None:
    with pytest.raises(DataError, match="cannot be a primary key"):
        key_text(value)


def test_every_row_needs_a_key_of_its_own() -> None:
    assert check_keys(["a", "b", 1], "id", "t") == 3
    with pytest.raises(DataError, match=r"^t: 2 rows have no 'id', which is the primary key"):
        check_keys(["a", None, ""], "id", "t")
    with pytest.raises(DataError, match=r"^t: 1 values of the primary key 'id' are not unique, e\.g\. '1' in 3 rows"):
        check_keys(["1", 1, "b", 1], "id", "t")
