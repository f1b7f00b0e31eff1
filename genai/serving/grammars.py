"""What an answer must look like: `response_format` and vLLM's `structured_outputs` into a `Grammar`.

Size, depth and references of a schema are checked here, before an engine sees it; whether it can be followed, the
engine says.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from genai.config.sizes import parse_size
from genai.models.generation import Grammar
from genai.serving.errors import ApiError

if TYPE_CHECKING:
    from genai.config.serve import LimitsConfig
    from genai.serving.wire.generating import Generating, ResponseFormat, StructuredOutputs

_bytes_of = lru_cache(maxsize=16)(parse_size)

_NULL = b"null"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are no schemas."""


def grammar_of(body: Generating, limits: LimitsConfig) -> Grammar | None:
    """What the answer must look like; None: anything.

    Raises:
        ApiError: 400.
    """
    wanted = body.response_format
    extra = body.structured_outputs
    if wanted is not None and wanted.type != "text":
        if extra is not None:
            raise ApiError("response_format and structured_outputs cannot both be given", param="structured_outputs")
        return _of_format(wanted, limits)
    return None if extra is None else _of_structured(extra, limits)


def _of_format(wanted: ResponseFormat, limits: LimitsConfig) -> Grammar:
    if wanted.type == "json_object":
        return Grammar(kind="json_object")
    param = "response_format.json_schema.schema"
    if wanted.json_schema is None or bytes(wanted.json_schema.schema) == _NULL:
        raise ApiError(f"parameter '{param}' is missing", param=param)
    return _of_schema(bytes(wanted.json_schema.schema), limits, param)


def _of_structured(extra: StructuredOutputs, limits: LimitsConfig) -> Grammar:
    given = {
        "json": bytes(extra.json) if bytes(extra.json) != _NULL else None,
        "json_object": extra.json_object or None,
        "regex": extra.regex,
        "choice": extra.choice,
        "grammar": extra.grammar,
    }
    kinds = [kind for kind, value in given.items() if value is not None]
    if len(kinds) != 1:
        raise ApiError(
            f"structured_outputs wants exactly one of {', '.join(given)}, not {len(kinds)}", param="structured_outputs"
        )
    if extra.json_object:
        return Grammar(kind="json_object")
    param = f"structured_outputs.{kinds[0]}"
    schema = given["json"]
    if isinstance(schema, bytes):
        return _of_schema(_unwrapped(schema, param), limits, param)
    if extra.choice is not None:
        text = msgspec.json.encode(extra.choice).decode()
        return Grammar(kind="choice", text=_of_size(text, limits, param))
    if extra.regex is not None:
        return Grammar(kind="regex", text=_of_size(extra.regex, limits, param))
    return Grammar(kind="lark", text=_of_size(extra.grammar or "", limits, param))


def _unwrapped(schema: bytes, param: str) -> bytes:
    """The schema itself, where it came as a string that holds it."""
    if not schema.startswith(b'"'):
        return schema
    try:
        return msgspec.json.decode(schema, type=str).encode()
    except (msgspec.DecodeError, UnicodeError):
        raise ApiError(f"{param} is not valid JSON", param=param) from None


def _of_size(text: str, limits: LimitsConfig, param: str) -> str:
    size = len(text.encode())
    if size > _bytes_of(limits.max_schema):
        raise ApiError(f"{param} has {size} bytes, more than the {limits.max_schema} that are allowed", param=param)
    return text


def _of_schema(schema: bytes, limits: LimitsConfig, param: str) -> Grammar:
    if len(schema) > _bytes_of(limits.max_schema):
        raise ApiError(
            f"{param} has {len(schema)} bytes, more than the {limits.max_schema} that are allowed", param=param
        )
    fault = _schema_fault(schema, limits.max_schema_depth)
    if fault:
        raise ApiError(f"{param} {fault}", param=param)
    return Grammar(kind="json_schema", text=schema.decode())


@lru_cache(maxsize=256)
def _schema_fault(schema: bytes, max_depth: int) -> str | None:
    """What is wrong with a schema, as far as can be told at once; kept, as the same schema comes again and again."""
    try:
        value = msgspec.json.decode(schema)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return "is nested too deeply" if isinstance(error, RecursionError) else "is not valid JSON"
    if not isinstance(value, dict):
        return "must be an object"
    for depth, place, item in _walk(value):
        if depth > max_depth:
            return f"is nested more than {max_depth} deep (at {place})"
        if isinstance(item, dict):
            for name in _REFERENCES:
                target = item.get(name)
                if isinstance(target, str) and not target.startswith("#"):
                    return f"refers to '{target[:100]}' (at {place}); only what is within it (#/$defs/...) is followed"
    return None


def _walk(schema: dict[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """All objects and lists, with how deep they lie and where (JSON pointer); without a call for each level."""
    waiting: list[tuple[int, str, Any]] = [(1, "#", schema)]
    while waiting:
        depth, place, item = waiting.pop()
        yield depth, place, item
        below = item.items() if isinstance(item, dict) else enumerate(item)
        waiting += [
            (depth + 1, f"{place}/{key}", value)
            for key, value in below
            if isinstance(value, dict | list) and key not in _DATA
        ]
