"""A loaded config as YAML, with defaults, and where each value came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from genai.config.dialect import dump
from genai.config.loading import Loaded
from genai.config.tree import Key, dotted

_COMMENT_COLUMN = 60


def resolved_values(loaded: Loaded[Any]) -> dict[str, Any]:
    """The config with defaults as plain values: what the job will work with; secrets stay references."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(loaded.config)))
    return values


def origins(loaded: Loaded[Any]) -> dict[str, str]:
    """Dotted key of every value -> `file:line`, `base file:line`, `override` or `default`."""
    return {dotted(key): loaded.origin(key) for key, _, _ in _lines(resolved_values(loaded)) if key}


def show(loaded: Loaded[Any], *, with_origins: bool = False) -> str:
    """The resolved config as YAML.

    Args:
        loaded: what `load` gave.
        with_origins: end each line with a comment that says where the value came from.
    """
    lines = []
    for key, text, has_value in _lines(resolved_values(loaded)):
        comment = f"# {loaded.origin(key)}" if with_origins and has_value else ""
        lines.append(f"{text.ljust(_COMMENT_COLUMN if comment else 0)} {comment}".rstrip())
    return "\n".join(lines)


def _lines(value: Any, key: Key = (), indent: int = 0) -> Iterator[tuple[Key, str, bool]]:
    """Each line of the YAML: its key, its text, and whether a value stands in it (not only the name of a section)."""
    for name, item in value.items():
        path = (*key, name)
        label = f"{' ' * indent}{_scalar(name)}:"
        if isinstance(item, dict) and item:
            yield path, label, False
            yield from _lines(item, path, indent + 2)
        elif isinstance(item, list) and any(isinstance(each, dict | list) for each in item):
            yield path, f"{label} {json.dumps(item, ensure_ascii=False)}", True
        else:
            yield path, f"{label} {_flow(item)}", True


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    return f"[{', '.join(_scalar(item) for item in value)}]" if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> str:
    """A scalar on one line, in quotes wherever a comma, a bracket or a line break could be misread."""
    if isinstance(value, str) and ("\n" in value or "\t" in value):
        return json.dumps(value, ensure_ascii=False)
    return dump([value], flow=True).strip().removeprefix("[").removesuffix("]")
