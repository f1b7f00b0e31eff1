"""Bodies of requests: JSON into a msgspec struct, or an error in words for the one who wrote it.

msgspec does the checks while it reads, ranges included, which costs next to nothing. What it says when one fails is
turned into a sentence here, where time does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from genai.registry import suggest
from genai.serving.errors import ApiError

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<place>\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_LENGTH = re.compile(r"^Expected `(?P<kind>\w+)` of length (?P<sign>>=|<=) (?P<length>\d+)$")
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_SHOWN_CHARACTERS = 40


class Body(Generic[T]):
    """Reads the bodies of one kind of request.

    Args:
        form: a msgspec struct; one that forbids unknown fields has typing errors found.
        hints: name of a parameter that other servers know -> what to say of it.
    """

    def __init__(self, form: type[T], *, hints: Mapping[str, str] | None = None) -> None:
        self._form = form
        self._hints = hints or {}
        self._decoder = msgspec.json.Decoder(form)

    def read(self, body: bytes) -> T:
        """The request that `body` holds.

        Raises:
            ApiError: 400, with the parameter that is to blame.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise self._explained(body, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(f"the body is not valid JSON: {_json_fault(error)}") from None

    def _explained(self, body: bytes, text: str) -> ApiError:
        found = _AT.match(text)
        assert found is not None
        what, steps = found["what"], list(_steps(found["path"] or ""))
        param = _param(found["path"] or "")
        if unknown := _UNKNOWN.match(what):
            return self._unknown(unknown["name"], steps, param)
        if missing := _MISSING.match(what):
            name = f"{param}.{missing['name']}" if param else missing["name"]
            return ApiError(f"parameter '{_cut(name)}' is missing", param=name)
        if not param:
            return ApiError("the body must be a JSON object")
        wanted = _wanted(what, _type_at(inspect.type_info(self._form), steps))
        subject = f"every value of {param}" if None in steps else param
        shown = _shown(body, steps)
        return ApiError(f"{subject} must be {wanted}{f', not {shown}' if shown else ''}", param=param)

    def _unknown(self, name: str, steps: list[str | int | None], inside: str) -> ApiError:
        param = f"{inside}.{name}" if inside else name
        if not inside and name in self._hints:
            return ApiError(self._hints[name], param=param)
        kind = _type_at(inspect.type_info(self._form), steps)
        fields = [field.encode_name for part in _parts(kind) for field in getattr(part, "fields", ())]
        near = suggest(name, fields)
        hint = f" (did you mean '{near}'?)" if near else ""
        return ApiError(f"unknown parameter '{_cut(param)}'{hint}", param=_cut(param))


def _json_fault(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "truncated" in str(error):
        return "it ends too early, or has half a surrogate pair"
    return str(error).removeprefix("JSON is malformed: ")


# --- where ------------------------------------------------------------------------------------------------------------


def _param(path: str) -> str:
    return path.replace("[...]", "").lstrip(".")


def _steps(path: str) -> Iterator[str | int | None]:
    """Names and places on the way; None for a key that msgspec does not tell."""
    for step in _STEP.finditer(path):
        yield step["name"] or (int(step["place"]) if step["place"] else None)


def _parts(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    return tuple(
        part.type if isinstance(part, inspect.Metadata) else part
        for part in (kind.types if isinstance(kind, inspect.UnionType) else (kind,))
    )


def _type_at(kind: inspect.Type, steps: list[str | int | None]) -> inspect.Type:
    for step in steps:
        kind = next((below for part in _parts(kind) for below in _below(part, step)), kind)
    return kind


def _below(kind: inspect.Type, step: str | int | None) -> Iterator[inspect.Type]:
    if isinstance(step, str):
        yield from (field.type for field in getattr(kind, "fields", ()) if field.encode_name == step)
    elif isinstance(kind, inspect.ListType) and step is not None:
        yield kind.item_type
    elif isinstance(kind, inspect.DictType) and step is None:
        yield kind.value_type


# --- what -------------------------------------------------------------------------------------------------------------


def _wanted(what: str, kind: inspect.Type) -> str:
    """What would be right: from the type of the field, which knows both ends of a range."""
    if length := _LENGTH.match(what):
        side = "at least" if length["sign"] == ">=" else "at most"
        things = "character" if length["kind"] == "str" else "item"
        things += "s" if length["length"] != "1" else ""
        return f"{_KINDS.get(length['kind'], 'a list')} of {side} {length['length']} {things}"
    for part in _parts(kind):
        if isinstance(part, inspect.LiteralType):
            return "one of " + ", ".join(f"'{value}'" for value in part.values)
        if isinstance(part, inspect.IntType | inspect.FloatType) and ("got" not in what):
            return _range(part)
    wanted = what.removeprefix("Expected ").partition(",")[0].strip("`").split(" | ")
    return " or ".join(_KINDS.get(name, name) for name in wanted if name != "null") or "null"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f"between {_number(kind.ge)} and {_number(kind.le)}"
    if kind.gt is not None:
        return f"above {_number(kind.gt)}" + (f" and at most {_number(kind.le)}" if kind.le is not None else "")
    if kind.ge is not None:
        return f"at least {_number(kind.ge)}"
    return "an integer of at most 64 bits" if isinstance(kind, inspect.IntType) else "a finite number"


def _number(value: float) -> str:
    return str(value).removesuffix(".0")


def _shown(body: bytes, steps: list[str | int | None]) -> str:
    """The value that was given, short; "" where it cannot be told."""
    try:
        value: Any = msgspec.json.decode(body)
        for step in steps:
            if step is None:
                return ""
            value = value[step]
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError):
        return ""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f"'{_cut(value)}'"
    return _cut(str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
