"""Grammars in the words of llguidance, and what is wrong with one in words for the one who wrote it.

Nothing here is guarded: a grammar can take for ever, or more stack than there is. See `grammar_trials`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from genai.models.generation import Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

_JSON_OPTIONS: JsonCompileOptions = {
    # A schema could switch these off for itself by "x-guidance".
    "lenient": False,
    "coerce_one_of": False,
    # Room for an indented object, but not for a model that falls into writing spaces.
    "whitespace_flexible": True,
    "whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,32}",
    # Each string has one spelling: otherwise a key could come twice, once as \u0061, and the second is what counts.
    "json_allowed_escapes": 'nrtbf\\"',
    "json_allow_general_unicode_escapes": False,
}
_UNKNOWN_TO_LLGUIDANCE = ("additionalItems",)
"""Keywords that say something and that it passes over without a word."""
SUPPORTED_KEYWORDS = (
    "type, enum, const, properties, required, additionalProperties, patternProperties, minProperties, maxProperties, "
    "items, prefixItems, minItems, maxItems, minLength, maxLength, pattern, format, minimum, maximum, "
    "exclusiveMinimum, exclusiveMaximum, multipleOf, anyOf, allOf, oneOf of alternatives that exclude each other, "
    "$defs and $ref within the schema"
)
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_MAPPINGS = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE = ("items", "additionalProperties")
_MOST_TOLD = 300
"""Characters of an explanation."""


def llguidance_text(grammar: Grammar) -> str:
    """The grammar as llguidance reads it.

    Raises:
        ValueError: it is not what its kind says.
    """
    from llguidance import LLMatcher

    if grammar.kind == "json_object":
        return _of_schema('{"type": "object"}')
    if grammar.kind == "json_schema":
        return _of_schema(grammar.text)
    if grammar.kind == "regex":
        return LLMatcher.grammar_from_regex(grammar.text)
    if grammar.kind == "choice":
        return LLMatcher.grammar_from_regex("|".join(map(_literally, _choices(grammar.text))))
    return LLMatcher.grammar_from_lark(grammar.text)


def _of_schema(text: str) -> str:
    from llguidance import LLMatcher

    if not text.lstrip().startswith("{"):
        raise ValueError("it is no JSON object")
    return LLMatcher.grammar_from_json_schema(text, overrides=_JSON_OPTIONS)


def find_problem(grammar: Grammar) -> str | None:
    """What is wrong with a grammar and where; None where it can be used."""
    try:
        problem = _problem(llguidance_text(grammar))
        if grammar.kind == "json_schema":
            found, place = _placed(json.loads(grammar.text), problem)
            return None if found is None else _told_schema(found, place)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)
    kind = {"json_schema": "JSON schema", "regex": "regular expression", "lark": "Lark grammar"}.get(grammar.kind)
    return None if problem is None else f"the {kind or grammar.kind} cannot be used: {_shortened(problem)}"


def _told_schema(problem: str, place: str) -> str:
    where = f" (at {place})"
    if problem.startswith("Unimplemented keys: "):
        keys = json.loads(problem.removeprefix("Unimplemented keys: "))
        words = ", ".join(f"'{key}'" for key in keys)
        return f"the JSON schema has unsupported keywords: {words}{where}; supported are {SUPPORTED_KEYWORDS}"
    if problem.startswith("oneOf constraints are not supported"):
        problem = "oneOf is supported only where its alternatives exclude each other for certain; take anyOf"
    elif "failed: Default retriever" in problem:
        problem = (
            f"{problem.partition(' is not present')[0]} is not part of the schema; $ref may only lead to its $defs"
        )
    elif problem.startswith("regex parse error"):
        problem = f"'pattern' is no regular expression: {problem}"
    return f"the JSON schema cannot be used: {_shortened(problem)}{where}"


def _shortened(problem: str) -> str:
    """On one line, without the text of the grammar that llguidance quotes."""
    lines = [line.strip() for line in problem.partition("\n   1 |")[0].splitlines()]
    text = " ".join(line for line in lines if line and set(line) - {"^", "|", " "})
    return text if len(text) <= _MOST_TOLD else f"{text[: _MOST_TOLD // 2]} ... {text[-_MOST_TOLD // 2 :]}"


def _choices(text: str) -> list[str]:
    choices = json.loads(text)
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise ValueError("a choice is a list of one text or more")
    return choices


def _literally(text: str) -> str:
    """A regular expression for exactly this text."""
    return "".join(letter if letter.isascii() and letter.isalnum() else f"\\x{{{ord(letter):X}}}" for letter in text)


# --- where a schema is wrong ------------------------------------------------------------------------------------------


def _problem(text: str) -> str | None:
    """What llguidance says against a grammar, having compiled it and taken its first step."""
    matcher = compiled(_bytes_as_tokens(), text)
    return matcher.get_error() if matcher.is_error() else None


def compiled(tokenizer: LLTokenizer, text: str) -> LLMatcher:
    """A grammar with its first step taken, which builds most of what later ones need; `is_error` if it cannot be."""
    from llguidance import LLMatcher, LLParserLimits

    matcher = LLMatcher(tokenizer, text, log_level=0, limits=LLParserLimits(verbose_errors=False))
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher


@cache
def _bytes_as_tokens() -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")


def _placed(schema: object, problem: str | None) -> tuple[str | None, str]:
    """A problem and the JSON pointer to the innermost schema that has it."""
    passed_over = next(_passed_over(schema, "#"), None)
    if problem is None:
        return passed_over or (None, "#")
    place, shared = "#", _definitions(schema)
    while True:
        for step, part in _parts(schema):
            alone = {**shared, **part} if isinstance(part, dict) else part
            if isinstance(alone, dict) and _problem(_of_schema(json.dumps(alone))) == problem:
                schema, place = part, f"{place}/{step}"
                break
        else:
            return problem, place


def _definitions(schema: object) -> dict[str, Any]:
    known = schema if isinstance(schema, dict) else {}
    return {key: known[key] for key in ("$schema", "$defs", "definitions") if key in known}


def _passed_over(schema: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(schema, dict):
        for key in _UNKNOWN_TO_LLGUIDANCE:
            if key in schema:
                yield f'Unimplemented keys: ["{key}"]', place
    for step, part in _parts(schema):
        yield from _passed_over(part, f"{place}/{step}")


def _parts(schema: object) -> Iterator[tuple[str, Any]]:
    """The schemas right inside a schema, with the steps of a JSON pointer to each (RFC 6901)."""
    if not isinstance(schema, dict):
        return
    for key in _MAPPINGS:
        inside = schema.get(key)
        for name, part in inside.items() if isinstance(inside, dict) else ():
            yield f"{key}/{name.replace('~', '~0').replace('/', '~1')}", part
    for key in _LISTS:
        inside = schema.get(key)
        for number, part in enumerate(inside if isinstance(inside, list) else ()):
            yield f"{key}/{number}", part
    for key in _SINGLE:
        if isinstance(schema.get(key), dict):
            yield key, schema[key]
