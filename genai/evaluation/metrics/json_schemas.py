"""Holds JSON values against JSON Schemas; the package jsonschema is imported nowhere else.

Regular expressions under `pattern` have a time limit, as all those of job files; under `patternProperties`, which are
held against names only, Python's own `re` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from genai.errors import MissingExtraError, UsageError
from genai.evaluation.patterns import Pattern

_compiled = lru_cache(maxsize=256)(Pattern)


class Schema:
    """A JSON Schema, Draft 2020-12 unless it names another one. `$ref` reaches what is in it, never the network.

    Args:
        schema: the schema.

    Raises:
        UsageError: it is none.
        MissingExtraError: the package jsonschema is not installed.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            import jsonschema
            from referencing import Registry
        except ImportError as error:
            raise MissingExtraError(
                "jsonschema", extra="eval", needed_for="metric 'json_valid' with a schema"
            ) from error
        validators: Any = jsonschema.validators  # its stubs leave `extend` without types
        kind = validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(dict(schema))
        except jsonschema.SchemaError as error:
            raise UsageError(f"the JSON schema is none: {error.message} (at {error.json_path})") from error
        limited = validators.extend(kind, {"pattern": _hold_pattern})
        self._validator = limited(schema, registry=Registry())

    def fault(self, value: Any) -> str:
        """What is wrong with a value, and where; empty where nothing is.

        Raises:
            UsageError: the schema refers to something that is not in it.
            TimeoutError: a pattern took longer than its time limit.
        """
        from referencing.exceptions import Unresolvable

        try:
            error = next(self._validator.iter_errors(value), None)
        except Unresolvable as fault:
            raise UsageError(f"the JSON schema refers to '{fault.ref}', which is not in it") from fault
        return "" if error is None else f"{error.json_path}: {error.message[:200]}"


def _hold_pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Exception]:
    """The keyword `pattern`, in the form that jsonschema wants."""
    import jsonschema

    if validator.is_type(value, "string") and _compiled(pattern).find(value) is None:
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")
