"""A resolved job file against its config class: pydantic checks, and what it finds is said in the words of the user.

All faults are found at once. Where a key or a variant's name is misspelt and its right form is clear, what stands below
it is checked as if it were written right.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from genai.config.annotations import Variants, default_of, field_of, hints, is_section, shapes
from genai.config.faults import faults_of
from genai.config.tree import Node, plain
from genai.errors import Problem

C = TypeVar("C")
_MAX_ROUNDS = 8


def check(schema: type[C], tree: Node, *, job: str | None = None) -> tuple[C | None, list[Problem]]:
    """Make the config of a job, or say all that is wrong.

    Args:
        schema: the job's config class.
        tree: the job file with its references resolved.
        job: the job's name, for hints.

    Returns:
        the config (None when something is wrong) and the problems.
    """
    mended: list[Problem] = []
    adapter = _adapter(cast(type, schema))
    for _ in range(_MAX_ROUNDS):
        values = plain(tree)
        _name_default_variants(schema, values)
        try:
            (config,) = adapter.validate_json(json.dumps([values]))
        except ValidationError as error:
            faults = faults_of(error, schema, tree, values, job)
        else:
            return (None if mended else config), mended
        mends = [(fault.problem, fault.mend) for fault in faults if fault.mend is not None]
        if not mends:
            break
        for problem, mend in mends:
            tree = mend(tree)
            mended.append(problem)
    return None, [*mended, *(fault.problem for fault in faults if fault.mend is None)]


@cache
def _adapter(schema: type) -> TypeAdapter[list[Any]]:
    """The checker of a config class; in a list, since pydantic takes settings from outside for no bare dataclass."""
    return TypeAdapter(list[schema], config=ConfigDict(extra="forbid", strict=True))  # type: ignore[valid-type]


def _name_default_variants(config: type, values: Any) -> None:
    """Let a section without its `name` be the default's variant: `optimizer: {lr: 1e-4}` is AdamW's."""
    for name, annotation in hints(config).items():
        section = values.get(name) if isinstance(values, dict) else None
        if not isinstance(section, dict):
            continue
        for shape in shapes(annotation):
            inner = shape.type
            if isinstance(inner, Variants):
                default = default_of(field_of(config, name))
                if hasattr(default, inner.discriminator):
                    section.setdefault(inner.discriminator, getattr(default, inner.discriminator))
                inner = inner.get(section.get(inner.discriminator))
            if is_section(inner):
                _name_default_variants(inner, section)
