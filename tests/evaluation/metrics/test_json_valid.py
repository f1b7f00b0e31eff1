from __future__ import annotations

import builtins
from typing import Any

import pytest
from metric_examples import answered, metric_of, reason_of, score_of, value_of

from genai.errors import MissingExtraError, UsageError
from genai.evaluation import patterns
from genai.evaluation.records import Score

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "ages": {"type": "array", "items": {"type": "integer"}}},
    "required": ["name"],
    "additionalProperties": False,
}


def note_of(text: str, schema: dict[str, Any] | None = None, **settings: Any) -> str:
    """What is wrong with an answer."""
    score = score_of(metric_of("json_valid", **settings), answered(json_schema=schema), text)
    assert isinstance(score, Score)
    assert score.parts == (float(not score.note),)
    return score.note


def test_json_without_a_schema() -> None:
    assert note_of('{"a": 1}') == ""
    assert note_of("[1, 2]") == ""
    assert note_of("{'a': 1}").startswith("no JSON: Expecting property name")
    assert note_of("") == "no JSON: Expecting value (line 1, column 1)"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('{"name": "Ada", "ages": [36]}', ""),
        ('{"ages": []}', "$: 'name' is a required property"),
        ('{"name": "Ada", "ages": [36, "37"]}', "$.ages[1]: '37' is not of type 'integer'"),
        ('{"name": "Ada", "x": 1}', "$: Additional properties are not allowed ('x' was unexpected)"),
        ("3", "$: 3 is not of type 'object'"),
    ],
)
def test_an_answer_must_fit_the_schema_and_the_place_is_named(text: str, note: str) -> None:
    assert note_of(text, SCHEMA) == note


def test_a_fence_counts_where_that_is_wanted() -> None:
    assert note_of('```json\n{"name": "Ada"}\n```', SCHEMA, kwargs={"fenced": True}) == ""
    assert note_of('```json\n{"name": "Ada"}\n```', SCHEMA) != ""


def test_references_inside_a_schema_are_followed() -> None:
    schema = {"$defs": {"age": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/$defs/age"}}
    assert note_of("[1, 2]", schema) == ""
    assert note_of('["1"]', schema) == "$[0]: '1' is not of type 'integer'"


def test_a_reference_into_the_network_is_refused() -> None:
    with pytest.raises(UsageError, match=r"refers to 'http://127\.0\.0\.1:9/x\.json', which is not in it"):
        note_of("[1]", {"items": {"$ref": "http://127.0.0.1:9/x.json"}})


def test_patterns_of_a_schema_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"type": "object", "properties": {"code": {"pattern": "^(a|aa)+$"}}}
    assert note_of('{"code": "aaa"}', schema) == ""
    assert note_of('{"code": "b"}', schema) == "$.code: 'b' does not match '^(a|aa)+$'"
    assert note_of('{"code": 3}', schema) == ""
    monkeypatch.setattr(patterns, "TIME_LIMIT_S", 0.05)
    astray = f'{{"code": "{"a" * 60}b"}}'
    assert "pattern of the schema was not done" in reason_of(
        metric_of("json_valid"), answered(json_schema=schema), astray
    )


@pytest.mark.parametrize("schema", [{"pattern": "("}, {"patternProperties": {"(": {}}}])
def test_a_pattern_that_is_none_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="the JSON schema is none: '\\(' is not a 'regex'"):
        note_of("{}", schema)


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the JSON schema is none: .*\(at \$\.type\)"):
        note_of("[1]", {"type": "strange"})


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "jsonschema":
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert value_of(metric_of("json_valid"), answered(), "1") == 1
    with pytest.raises(MissingExtraError, match=r"genai-foundry\[eval\]"):
        note_of("1", SCHEMA)
