"""Fifty JSON schemas, each different in what it asks for."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(required: str = "", **properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


_INT: Schema = {"type": "integer", "minimum": 0, "maximum": 999}
_WORD: Schema = {"type": "string", "maxLength": 12}

SCHEMAS: dict[str, Schema] = {
    "object": {"type": "object"},
    "closed object": _object("name age", name=_WORD, age=_INT),
    "optional properties": _object("", name=_WORD, age=_INT, nickname=_WORD),
    "some required": _object("age", name=_WORD, age=_INT, nickname=_WORD),
    "nested": _object("a", a=_object("b", b=_object("c", c=_INT))),
    "nullable": _object("a", a={"type": ["string", "null"], "maxLength": 5}),
    "several types": _object("a", a={"type": ["integer", "boolean", "null"]}),
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "string": _WORD,
    "array": {"type": "array", "items": _INT, "maxItems": 5},
    "integer from to": {"type": "integer", "minimum": -17, "maximum": 2041},
    "integer between": {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 8},
    "number from to": {"type": "number", "minimum": -0.5, "maximum": 1.25},
    "number above": {"type": "number", "exclusiveMinimum": 100},
    "multiple of 7": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100_000},
    "cents": {"type": "number", "multipleOf": 0.01},
    "short string": {"type": "string", "minLength": 3, "maxLength": 4},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"},
    "pattern somewhere": {"type": "string", "pattern": "ab+c", "maxLength": 12},
    "digits": {"type": "string", "pattern": r"^\d{4}$"},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "duration": {"type": "string", "format": "duration"},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "ipv6": {"type": "string", "format": "ipv6"},
    "email": {"type": "string", "format": "email"},
    "hostname": {"type": "string", "format": "hostname"},
    "uri": {"type": "string", "format": "uri"},
    "enum of strings": {"enum": ["red", "green", "blue", "light blue", "grün", 'say "hi"', "a\\b", "line\nbreak"]},
    "enum of anything": {"enum": [1, "1", 1.5, None, True, ["x", 2], {"a": {"b": []}}]},
    "const": {"const": {"kind": "fixed", "values": [1, 2, 3]}},
    "tuple": {"type": "array", "prefixItems": [_INT, _WORD, {"type": "boolean"}], "items": False, "minItems": 3},
    "tuple and more": {"type": "array", "prefixItems": [_WORD], "items": _INT, "minItems": 2, "maxItems": 4},
    "array from to": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    "array of objects": {"type": "array", "items": _object("id", id=_INT, ok={"type": "boolean"}), "maxItems": 3},
    "array of arrays": {"type": "array", "maxItems": 3, "items": {"type": "array", "items": _INT, "maxItems": 2}},
    "any of": {"anyOf": [_INT, _WORD, _object("x", x=_INT)]},
    "any of objects": {"anyOf": [_object("cat", cat=_WORD), _object("dog age", dog=_WORD, age=_INT)]},
    "one of apart": {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 6}]},
    "one of by kind": {
        "oneOf": [_object("kind a", kind={"const": "a"}, a=_INT), _object("kind b", kind={"const": "b"}, b=_WORD)]
    },
    "all of": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 30}, {"multipleOf": 5}]},
    "mapping": {"type": "object", "additionalProperties": _INT, "maxProperties": 3},
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^x_[a-z]{1,3}$": _INT},
        "additionalProperties": False,
    },
    "definitions": {
        "$defs": {"p": _object("x y", x=_INT, y=_INT)},
        **_object("a b", a={"$ref": "#/$defs/p"}, b={"$ref": "#/$defs/p"}),
    },
    "tree": {
        "$defs": {
            "n": _object(
                "v",
                v=_INT,
                next={"$ref": "#/$defs/n"},
                kids={"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 2},
            )
        },
        "$ref": "#/$defs/n",
    },
}
assert len(SCHEMAS) == 50
