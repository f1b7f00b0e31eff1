from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.config.index import ColumnType
from genai.errors import UsageError
from genai.index.filters import All, AnyOf, Compare, Filter, Not, held_values, parse_filter, passes

COLUMNS: dict[str, ColumnType] = {
    "topic": "keyword",
    "tag": "keyword",
    "year": "integer",
    "price": "float",
    "draft": "boolean",
    "seen": "datetime",
    "two words": "keyword",
    "größe": "float",
}
FLOORS = Compare(column="topic", operator="=", value="floors")
SINCE_2020 = Compare(column="year", operator=">=", value=2020)


def at(*moment: int) -> float:
    year, month, day, *clock = moment
    return datetime(year, month, day, *clock, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("topic=floors", FLOORS),
        ("  topic  ==  'floors' ", FLOORS),
        ('topic = "under floor"', Compare(column="topic", operator="=", value="under floor")),
        (r"topic = 'it\'s \\ \"so\"'", Compare(column="topic", operator="=", value='it\'s \\ "so"')),
        ("topic=a-b/c.d:e+f&g;[h]{i}", Compare(column="topic", operator="=", value="a-b/c.d:e+f&g;[h]{i}")),
        ("topic=日本🙂", Compare(column="topic", operator="=", value="日本🙂")),
        ("topic=''", Compare(column="topic", operator="=", value="")),
        ("topic != floors", Compare(column="topic", operator="!=", value="floors")),
        ("topic <> floors", Compare(column="topic", operator="!=", value="floors")),
        ("year>=2020", SINCE_2020),
        ("year<-3", Compare(column="year", operator="<", value=-3)),
        ("price <= 1e-3", Compare(column="price", operator="<=", value=0.001)),
        ("price = 2", Compare(column="price", operator="=", value=2.0)),
        ("draft = True", Compare(column="draft", operator="=", value=True)),
        ("draft in true,false", Compare(column="draft", operator="in", value=(True, False))),
        ("seen > 2024-05-31", Compare(column="seen", operator=">", value=at(2024, 5, 31))),
        ("seen = 2024-05-31T12:30:00Z", Compare(column="seen", operator="=", value=at(2024, 5, 31, 12, 30))),
        ("seen = '2024-05-31 12:30'", Compare(column="seen", operator="=", value=at(2024, 5, 31, 12, 30))),
        ("seen = 2024-05-31T12:30:00+02:00", Compare(column="seen", operator="=", value=at(2024, 5, 31, 10, 30))),
        ("seen < 1717158600", Compare(column="seen", operator="<", value=1717158600.0)),
        ("tag in a,b", Compare(column="tag", operator="in", value=("a", "b"))),
        ("tag in (a, 'b c' , d)", Compare(column="tag", operator="in", value=("a", "b c", "d"))),
        ("exists(draft)", Compare(column="draft", operator="exists")),
        ("EXISTS ( draft )", Compare(column="draft", operator="exists")),
        ("'two words'=x", Compare(column="two words", operator="=", value="x")),
        ("größe > 1", Compare(column="größe", operator=">", value=1.0)),
        ("year >= 2020 and topic=floors", All(filters=(SINCE_2020, FLOORS))),
        ("not topic=floors", Not(filter=FLOORS)),
        ("not not topic=floors", Not(filter=Not(filter=FLOORS))),
        (
            "year >= 2020 and (tag in a,b or not exists(draft))",
            All(
                filters=(
                    SINCE_2020,
                    AnyOf(
                        filters=(
                            Compare(column="tag", operator="in", value=("a", "b")),
                            Not(filter=Compare(column="draft", operator="exists")),
                        )
                    ),
                )
            ),
        ),
        ("topic=floors or topic=floors AND year>=2020", AnyOf(filters=(FLOORS, All(filters=(FLOORS, SINCE_2020))))),
    ],
)
def test_a_text_is_read(text: str, expected: Filter) -> None:
    assert parse_filter(text, COLUMNS) == expected
    assert parse_filter(f"(({text}))", COLUMNS) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"topic": "floors"}, FLOORS),
        ({"topic": "floors", "year": {">=": 2020}}, All(filters=(FLOORS, SINCE_2020))),
        ({"year": {">=": 2020.0}}, SINCE_2020),
        (
            {"year": {">=": 2020, "<": 2024}},
            All(filters=(SINCE_2020, Compare(column="year", operator="<", value=2024))),
        ),
        ({"tag": ["a", "b"]}, Compare(column="tag", operator="in", value=("a", "b"))),
        ({"tag": {"in": []}}, Compare(column="tag", operator="in", value=())),
        ({"tag": None}, Not(filter=Compare(column="tag", operator="exists"))),
        ({"tag": {"exists": True}}, Compare(column="tag", operator="exists")),
        ({"tag": {"exists": False}}, Not(filter=Compare(column="tag", operator="exists"))),
        ({"price": {"==": 2}}, Compare(column="price", operator="=", value=2.0)),
        ({"seen": {"<": "2024-05-31"}}, Compare(column="seen", operator="<", value=at(2024, 5, 31))),
        ({"seen": {"<": 5}}, Compare(column="seen", operator="<", value=5.0)),
        ({"or": [{"topic": "floors"}, {"year": {">=": 2020}}]}, AnyOf(filters=(FLOORS, SINCE_2020))),
        (
            {"and": [{"topic": "floors"}], "not": {"topic": "floors"}},
            All(filters=(All(filters=(FLOORS,)), Not(filter=FLOORS))),
        ),
        ({}, All(filters=())),
        ('{"topic": "floors"}', FLOORS),
        (["topic=floors", {"year": {">=": 2020}}], All(filters=(FLOORS, SINCE_2020))),
        (["topic=floors"], FLOORS),
        ([], All(filters=())),
    ],
)
def test_values_are_read(values: Any, expected: Filter) -> None:
    assert parse_filter(values, COLUMNS) == expected


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("topik=floors", r"filter 'topik=floors', character 1: unknown column 'topik' \(did you mean 'topic'\?.*price"),
        ("_tenant=b", r"unknown column '_tenant'"),
        ("year=abc", r"filter 'year=abc', character 1: 'abc' is no whole number.*integer column 'year'"),
        ("year=3.5", "'3.5' is no whole number"),
        ("year=9223372036854775808", "is no whole number"),
        ("price=nan", "'nan' is no number"),
        ("price=x", "'x' is no number"),
        ("draft=1", "'1' is no true or false"),
        ("seen=yesterday", "'yesterday' is no time such as"),
        ("topic < b", "'topic' is a keyword column, which has no order"),
        ("draft >= true", "'draft' is a boolean column, which has no order"),
        ("topic=under floor", r"character 13: 'and' or 'or' is expected.*quotes"),
        ("topic", "an operator is expected after 'topic'"),
        ("topic=", "a value is expected"),
        ("=x", "a column is expected"),
        ("topic=x and", "a column is expected"),
        ("topic=x or or topic=y", "a column is expected"),
        ("(topic=x", r"'\)' is expected"),
        ("topic=x)", "'and' or 'or' is expected"),
        ("topic='x", "a quote that is not closed"),
        ("topic ! x", "a '!' without '='"),
        ("tag in a,,b", "a value is expected"),
        ("tag in ()", "a value is expected"),
        ("exists(topic", r"'\)' is expected"),
        ("", "a column is expected"),
        ("(" * 60 + "topic=x" + ")" * 60, "nested more than 50 deep"),
        ("not " * 60 + "topic=x", "nested more than 50 deep"),
        ({"topik": "x"}, r"filter.topik: unknown column 'topik' \(did you mean 'topic'"),
        ({"topic": 5}, "filter.topic: 5 is no text"),
        ({"year": "2020"}, "'2020' is no whole number"),
        ({"year": True}, "True is no whole number"),
        ({"price": True}, "True is no number"),
        ({"draft": "true"}, "'true' is no true or false"),
        ({"year": {"between": 3}}, r"filter.year: unknown operator 'between' \(known: =, !=, <"),
        ({"year": {"in": 3}}, "a list is expected"),
        ({"year": {"exists": "yes"}}, "exists is true or false"),
        ({"or": {"topic": "x"}}, "filter.or: a list is expected"),
        ({"or": ["topic=x"]}, "filter.or: a filter is expected"),
        ({"not": []}, "filter.not: a filter is expected"),
        ('{"topic": ', "no valid JSON"),
    ],
)
def test_a_fault_is_named(what: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_filter(what, COLUMNS)


def test_values_nested_too_deep_are_refused() -> None:
    values: dict[str, Any] = {"topic": "x"}
    for _ in range(60):
        values = {"not": values}
    with pytest.raises(UsageError, match="nested more than 50 deep"):
        parse_filter(values, COLUMNS)
    with pytest.raises(UsageError, match="deep"):
        parse_filter('{"not": ' * 100_000 + "{}" + "}" * 100_000, COLUMNS)


def test_an_index_without_columns_says_so() -> None:
    with pytest.raises(UsageError, match="the index has no metadata columns"):
        parse_filter("topic=x", {})


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        parse_filter(text, COLUMNS)


@given(st.text(max_size=20).filter(lambda text: "\x00" not in text))
def test_any_quoted_text_is_a_value(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_filter(f'topic="{quoted}"', COLUMNS) == Compare(column="topic", operator="=", value=value)


POINT = {"topic": "floors", "tag": ["a", "b"], "year": 2020, "price": 0.5, "draft": False, "seen": 100.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("topic=floors", True),
        ("topic!=floors", False),
        ("tag=a", True),
        ("tag=c", False),
        ("tag!=a", False),
        ("tag!=c", True),
        ("tag in c,b", True),
        ("tag in c,d", False),
        ("year>=2020", True),
        ("year<2020", False),
        ("draft=false", True),
        ("exists(tag)", True),
        ("exists('two words')", False),
        ("'two words'!=x", False),
        ("'two words'=x", False),
        ("größe<1", False),
        ("not größe<1", True),
        ("topic=x or year=2020", True),
        ("topic=x and year=2020", False),
    ],
)
def test_a_point_passes_or_not(text: str, expected: bool) -> None:
    assert passes(parse_filter(text, COLUMNS), POINT) is expected


def test_nothing_is_held_by_null_an_empty_list_and_what_is_no_number() -> None:
    payload = {"a": None, "b": [], "c": float("nan"), "d": [None], "e": float("inf"), "f": 0, "g": "", "h": False}
    held = {column: held_values(payload, column) for column in [*payload, "z"]}
    assert held == {
        **dict.fromkeys("abcdez", ()),
        "f": (0,),
        "g": ("",),
        "h": (False,),
    }
    assert passes(All(filters=()), {})
    assert not passes(AnyOf(filters=()), {})
