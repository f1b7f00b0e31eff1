"""Whether the calls that a model made are those that are right: the same functions with the same arguments.

Source: Patil et al. 2025, "The Berkeley Function Calling Leaderboard (BFCL)", section on AST evaluation, whose rules
are kept: names are compared whole, arguments by value and not by text, a required argument that is missing and one
that nobody expects are both wrong. An optional argument may be left out where it would have had its default, and
calls may come in any order unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genai.metrics.structured import read_json, same_value

Call = Mapping[str, Any]
"""{name, arguments}: the arguments as an object or as a JSON text of one."""


def wrong_with_calls(
    made: Sequence[Call],
    expected: Sequence[Call],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    in_order: bool = False,
    ignore_case: bool = False,
) -> str:
    """What is wrong with the calls that were made, in words; empty where they are those expected.

    Args:
        made: the model's.
        expected: those that are right; none where the model should have called nothing.
        tools: the functions that there are, in OpenAI's form; their defaults stand in for arguments left out.
        in_order: the calls must come as they are expected; otherwise the order makes no difference.
        ignore_case: capital letters make no difference in texts among the arguments.

    Raises:
        ValueError: the arguments of an expected call are no JSON object.
    """
    schemas = {name: schema for name, schema in map(_declared, tools) if name}
    wanted_calls = [_Normal(call, schemas) for call in expected]
    try:
        left = [_Normal(call, schemas) for call in made]
    except ValueError as error:
        return str(error)
    for number, wanted in enumerate(wanted_calls):
        candidates = left[:1] if in_order else left
        match = next((each for each in candidates if each.difference(wanted, ignore_case=ignore_case) == ""), None)
        if match is None:
            return _missing(wanted, candidates, number, ignore_case=ignore_case)
        left.remove(match)
    return f"{left[0].name} was called, which nobody expects" if left else ""


class _Normal:
    """A call with the defaults of its function filled in.

    Raises:
        ValueError: its arguments are no JSON object.
    """

    def __init__(self, call: Call, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self.name = str(call.get("name") or "a call without a name")
        schema = schemas.get(self.name, {})
        required = set(schema.get("required") or ())
        properties: Mapping[str, Any] = schema.get("properties") or {}
        defaults = {
            name: each["default"]
            for name, each in properties.items()
            if isinstance(each, Mapping) and "default" in each and name not in required
        }
        given = _arguments(self.name, call.get("arguments"))
        # null for an argument that may be left out says that it is left out
        given = {
            name: value
            for name, value in given.items()
            if value is not None or name in required or name in defaults or name not in properties
        }
        self.arguments = {**defaults, **given}

    def difference(self, wanted: _Normal, *, ignore_case: bool) -> str:
        """Where this call is not as `wanted`; empty where it is."""
        if self.name != wanted.name:
            return f"{self.name} was called, not {wanted.name}"
        for name, value in wanted.arguments.items():
            if name not in self.arguments:
                return f"{self.name}: argument {name} is missing"
            if not same_value(self.arguments[name], value, ignore_case=ignore_case):
                return f"{self.name}: argument {name} is {self.arguments[name]!r}, not {value!r}"
        extra = next((name for name in self.arguments if name not in wanted.arguments), None)
        return "" if extra is None else f"{self.name}: nobody expects argument {extra}"


def _missing(wanted: _Normal, candidates: Sequence[_Normal], number: int, *, ignore_case: bool) -> str:
    """Why there is no such call, told by one that is near to it."""
    near = next((each for each in candidates if each.name == wanted.name), candidates[0] if candidates else None)
    if near is None:
        return f"{wanted.name} was not called (call {number + 1})"
    return near.difference(wanted, ignore_case=ignore_case)


def _arguments(name: str, arguments: Any) -> Mapping[str, Any]:
    if isinstance(arguments, str):
        try:
            # a function without arguments is called with an empty text by some servers
            arguments = read_json(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise ValueError(f"{name}: the arguments are no JSON: {error}") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{name}: the arguments are no object")
    return arguments


def _declared(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Name and parameters of a function, in OpenAI's form or in the shorter one without `function`."""
    function = tool.get("function", tool)
    if not isinstance(function, Mapping):
        return "", {}
    parameters = function.get("parameters")
    return str(function.get("name", "")), parameters if isinstance(parameters, Mapping) else {}
