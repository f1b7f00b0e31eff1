"""Calls as BFCL's rules judge them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from genai.metrics.tool_calls import wrong_with_calls

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "default": "celsius"},
                "days": {"type": "integer"},
            },
            "required": ["city"],
        },
    },
}
TIME = {"name": "time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}
TOOLS = (WEATHER, TIME)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """As a server writes it: the arguments are a JSON text."""
    return {"name": name, "arguments": json.dumps(arguments)}


PARIS = {"name": "weather", "arguments": {"city": "Paris"}}
NOON = {"name": "time", "arguments": {"zone": "UTC"}}


@pytest.mark.parametrize(
    "made",
    [
        call("weather", city="Paris"),
        {"name": "weather", "arguments": {"city": "Paris"}},
        call("weather", city="Paris", unit="celsius"),
        call("weather", city="Paris", days=None),
    ],
)
def test_the_same_call_however_it_is_written(made: dict[str, Any]) -> None:
    assert wrong_with_calls([made], [PARIS], TOOLS) == ""


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (call("weather", city="Rome"), "weather: argument city is 'Rome', not 'Paris'"),
        (call("weather"), "weather: argument city is missing"),
        (call("weather", city="Paris", days=2), "weather: nobody expects argument days"),
        (call("weather", city="Paris", unit="kelvin"), "weather: argument unit is 'kelvin', not 'celsius'"),
        (call("weather", city=["Paris"]), r"weather: argument city is ['Paris'], not 'Paris'"),
        (call("Weather", city="Paris"), "Weather was called, not weather"),
        ({"name": "weather", "arguments": "{city: Paris}"}, "weather: the arguments are no JSON"),
        ({"name": "weather", "arguments": "[1]"}, "weather: the arguments are no object"),
        ({}, "a call without a name was called, not weather"),
    ],
)
def test_another_call_is_wrong_and_says_why(made: dict[str, Any], why: str) -> None:
    assert wrong_with_calls([made], [PARIS], TOOLS).startswith(why)


def test_numbers_are_compared_by_value_and_not_by_kind() -> None:
    wanted = {"name": "weather", "arguments": {"city": "Paris", "days": 3}}
    assert wrong_with_calls([call("weather", city="Paris", days=3.0)], [wanted], TOOLS) == ""
    assert "days is '3'" in wrong_with_calls([call("weather", city="Paris", days="3")], [wanted], TOOLS)
    assert "days is True" in wrong_with_calls(
        [call("weather", city="Paris", days=True)],
        [{"name": "weather", "arguments": {"city": "Paris", "days": 1}}],
        TOOLS,
    )


def test_several_calls_come_in_any_order_unless_one_is_asked_for() -> None:
    made = [call("time", zone="UTC"), call("weather", city="Paris")]
    assert wrong_with_calls(made, [PARIS, NOON], TOOLS) == ""
    assert wrong_with_calls(made, [PARIS, NOON], TOOLS, in_order=True) == "time was called, not weather"
    assert wrong_with_calls(made[::-1], [PARIS, NOON], TOOLS, in_order=True) == ""


def test_each_call_counts_once() -> None:
    twice = [call("weather", city="Paris")] * 2
    assert wrong_with_calls(twice, [PARIS], TOOLS) == "weather was called, which nobody expects"
    assert wrong_with_calls(twice[:1], [PARIS, PARIS], TOOLS) == "weather was not called (call 2)"
    assert wrong_with_calls(twice, [PARIS, PARIS], TOOLS) == ""


def test_where_nothing_should_be_called() -> None:
    assert wrong_with_calls([], [], TOOLS) == ""
    assert wrong_with_calls([call("time")], [], TOOLS) == "time was called, which nobody expects"
    assert wrong_with_calls([], [NOON], TOOLS) == "time was not called (call 1)"


def test_a_function_without_arguments_may_be_called_with_an_empty_text() -> None:
    for arguments in ("", "{}", None, {}):
        assert wrong_with_calls([{"name": "now", "arguments": arguments}], [{"name": "now"}]) == ""


def test_case_makes_no_difference_where_that_is_wanted() -> None:
    made = [call("weather", city="PARIS")]
    assert wrong_with_calls(made, [PARIS], TOOLS, ignore_case=True) == ""
    assert wrong_with_calls(made, [PARIS], TOOLS) != ""


@pytest.mark.parametrize("tool", [{}, {"function": 3}, {"function": {"name": "weather", "parameters": 3}}])
def test_declarations_that_are_none_take_nothing_away(tool: dict[str, Any]) -> None:
    assert wrong_with_calls([call("weather", city="Paris")], [PARIS], [tool]) == ""


def test_an_expected_call_that_cannot_be_read_is_a_fault_of_the_data() -> None:
    with pytest.raises(ValueError, match="weather: the arguments are no JSON"):
        wrong_with_calls([], [{"name": "weather", "arguments": "city=Paris"}], TOOLS)
