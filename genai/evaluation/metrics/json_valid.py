"""Whether an answer is JSON, and such as was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from genai.evaluation.metrics.base import TextMetric
from genai.evaluation.metrics.json_schemas import Schema
from genai.evaluation.patterns import TIME_LIMIT_S
from genai.evaluation.records import Chat, Example, Score, Unscored
from genai.metrics.structured import read_json


class JsonValid(TextMetric):
    """1 where the answer is JSON and nothing else, and is as the question's schema has it.

    Args:
        fenced: JSON in a Markdown fence counts too.
        pattern: see `TextMetric`.
    """

    name = "json_valid"
    what = "share of answers that are JSON and fit the data set's json_schema"

    def __init__(self, *, fenced: bool = False, pattern: str | None = None) -> None:
        super().__init__(pattern=pattern)
        self._fenced = fenced
        self._schemas: dict[str, Schema] = {}

    def check(self, example: Example) -> None:
        """Look at the schema of a row before anything is asked.

        Raises:
            UsageError: it is none.
            MissingExtraError: the package jsonschema is not installed.
        """
        if isinstance(example.question, Chat) and example.question.json_schema is not None:
            self._schema(example.question.json_schema)

    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """1, or 0 with what is wrong.

        Raises:
            UsageError: the schema is none, or refers to something that is not in it.
            MissingExtraError: the package jsonschema is not installed.
        """
        try:
            value = read_json(text, fenced=self._fenced)
        except ValueError as error:
            return Score(parts=(0.0,), value=0.0, note=f"no JSON: {error}")
        schema = example.question.json_schema if isinstance(example.question, Chat) else None
        try:
            note = "" if schema is None else self._schema(schema).fault(value)
        except TimeoutError:
            return Unscored(reason=f"a pattern of the schema was not done with it within {TIME_LIMIT_S:g} s")
        return Score(parts=(float(not note),), value=float(not note), note=note)

    def _schema(self, schema: Mapping[str, Any]) -> Schema:
        """Compiled once: the rows of a data set mostly share one."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._schemas:
            self._schemas[key] = Schema(schema)
        return self._schemas[key]
