"""The JSON schema (draft 2020-12) of a job file, for editors: completion, documentation and red lines while typing.

Every value may also be a text with a reference such as `${variables.lr}`. Keys that have to be written are asked for
only where the file has no `base` to take them from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, asdict, is_dataclass
from typing import Any, Literal, get_args, get_origin

from genai.config.annotations import (
    Bound,
    Shape,
    Variants,
    all_keys,
    default_of,
    field_of,
    hints,
    is_section,
    required,
    sections,
    shapes,
)
from genai.config.field_docs import class_doc, field_docs
from genai.config.fields import Notation
from genai.config.schemas import schema_of

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]+\}"}
_BASE = {"type": "string", "minLength": 1, "description": "Another job file (relative to this one) to build on."}
_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}

Schema = dict[str, Any]


def json_schema(job: str) -> Schema:
    """The schema of a job's file.

    Raises:
        UsageError: there is no such job.
    """
    config = schema_of(job)
    root = _section(config)
    return {
        "$schema": _DIALECT,
        "title": f"genai {job}",
        **root,
        "properties": {"base": _BASE, **root["properties"]},
        "if": {"not": {"required": ["base"]}},
        "then": _asked_for(config),
        "$defs": {each.__name__: _section(each) for each in _classes_below(config)},
    }


def _classes_below(config: type) -> list[type]:
    found = [each for _, section, name in all_keys(config) for each in sections(hints(section)[name])]
    return sorted(set(found), key=lambda each: each.__name__)


def _section(config: type) -> Schema:
    docs = field_docs(config)
    return {
        "type": "object",
        "description": class_doc(config),
        "additionalProperties": False,
        "properties": {
            name: {"description": docs.get(name, ""), **_value(annotation), **_default(config, name)}
            for name, annotation in hints(config).items()
        },
    }


def _default(config: type, name: str) -> Schema:
    default = default_of(field_of(config, name))
    if default is MISSING:
        return {}
    return {"default": asdict(default) if is_dataclass(default) and not isinstance(default, type) else default}


def _value(annotation: Any) -> Schema:
    options = [option for shape in shapes(annotation) for option in _options(shape)]
    if {} in options:
        return {}
    return {"anyOf": [*options, _REFERENCE]}


def _options(shape: Shape) -> Iterator[Schema]:
    kind, origin, arguments = shape.type, get_origin(shape.type), get_args(shape.type)
    if isinstance(kind, Variants):
        yield from ({"$ref": f"#/$defs/{each.__name__}"} for _, each in kind.classes)
    elif is_section(kind):
        yield {"$ref": f"#/$defs/{kind.__name__}"}
    elif origin is Literal:
        yield {"enum": list(arguments)}
    elif origin is list:
        yield {"type": "array", "items": _value(arguments[0])}
    elif origin is tuple:
        items = [_value(each) for each in arguments]
        yield {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    elif origin is dict:
        yield {"type": "object", "additionalProperties": _value(arguments[1])}
    else:
        yield {"type": _TYPES[kind], **_rules(shape)} if kind is not Any else {}


def _rules(shape: Shape) -> Schema:
    bounds: Schema = {_BOUNDS[rule.kind]: rule.limit for rule in shape.rules if isinstance(rule, Bound)}
    pattern = next((rule.pattern for rule in shape.rules if isinstance(rule, Notation)), None)
    return {**bounds, "pattern": pattern} if pattern else bounds


def _asked_for(config: type) -> Schema:
    """What has to be written in a section and, where they are there, in the sections below it."""
    below = {}
    for name, annotation in hints(config).items():
        classes = sections(annotation)
        asked_for = _asked_for(classes[0]) if len(classes) == 1 else {}
        if asked_for:
            below[name] = asked_for
    names = required(config)
    return {**({"required": names} if names else {}), **({"properties": below} if below else {})}
