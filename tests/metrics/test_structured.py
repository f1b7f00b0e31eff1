"""JSON as the RFC has it, and values compared by what they mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.metrics.structured import compare_fields, read_json, same_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3),
    max_leaves=8,
)


def test_json_is_read() -> None:
    assert read_json(' {"a": [1, 2.5, null, true]}\n') == {"a": [1, 2.5, None, True]}
    assert read_json("3") == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1, column 1"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": 1} done', "Extra data"),
        ('```json\n{"a": 1}\n```', "line 1, column 1"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("-Infinity", "-Infinity is no JSON"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5000, "4300 digits"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_json(text)


@pytest.mark.parametrize(
    "text", ['```json\n{"a": 1}\n```', '\n```\n{"a": 1}```  ', '{"a": 1}', '```JSON5  \n{"a": 1}\n  ```']
)
def test_a_fence_is_taken_off_where_it_is_allowed(text: str) -> None:
    assert read_json(text, fenced=True) == {"a": 1}


@pytest.mark.parametrize("text", ['Here: ```json\n{"a": 1}\n```', '```json {"a": 1} ```', "```\n```"])
def test_other_words_beside_a_fence_are_no_json(text: str) -> None:
    with pytest.raises(ValueError, match="column"):
        read_json(text, fenced=True)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (10**400, 1.5, False),
        (10**400, 10**400, True),
        (2**60, 2**60 + 1, False),
        (True, 1, False),
        (False, 0, False),
        (None, None, True),
        (None, "", False),
        ("a", "A", False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": [None]}, {"b": [None], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, [1], False),
        ("1", 1, False),
    ],
)
def test_values_are_compared_by_what_they_mean(first: Any, second: Any, same: bool) -> None:
    assert same_value(first, second) is same
    assert same_value(second, first) is same


def test_case_makes_no_difference_in_texts_where_that_is_wanted() -> None:
    assert same_value({"a": ["Straße"]}, {"a": ["STRASSE"]}, ignore_case=True)
    assert not same_value({"a": 1}, {"A": 1}, ignore_case=True)


@given(VALUES)
def test_a_value_is_itself_after_writing_and_reading(value: Any) -> None:
    assert same_value(read_json(json.dumps(value)), value)


def test_fields_of_the_first_level_are_compared() -> None:
    wanted = {"name": "Ada", "age": 36, "address": {"city": "London"}}
    found = {"name": "Ada", "age": "36", "address": {"city": "London"}, "more": 1}
    assert compare_fields(found, wanted) == {"name": True, "age": False, "address": True}


def test_named_fields_are_compared_nested_ones_by_their_path() -> None:
    wanted = {"address": {"city": "London", "zip": None}, "a.b": 1}
    found = {"address": {"city": "london", "zip": None}, "a.b": 1}
    fields = ["address.city", "address.zip", "address.street", "a.b"]
    right = {"address.city": False, "address.zip": True, "address.street": True, "a.b": True}
    assert compare_fields(found, wanted, fields) == right
    assert compare_fields(found, wanted, ["address.city"], ignore_case=True) == {"address.city": True}
    assert compare_fields({"address": 3}, wanted, ["address.city"]) == {"address.city": False}
    assert compare_fields({"extra": 1}, wanted, ["extra"]) == {"extra": False}


@pytest.mark.parametrize("found", [None, [], "Ada", 3])
def test_what_is_no_object_has_no_field_right(found: Any) -> None:
    assert compare_fields(found, {"name": None, "age": 3}) == {"name": False, "age": False}
