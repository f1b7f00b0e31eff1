"""Names to implementations: built-ins are declared as `module:attribute` strings, plugins come in as entry points.

Nothing is imported until a name is asked for, so that declaring a registry costs nothing. A YAML file can only name
what is registered here; it can never import code by a dotted path.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

from genai.errors import UsageError

T = TypeVar("T")


def suggest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` was most likely meant to be, or None when nothing is near."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


class Registry(Generic[T]):
    """Named implementations of one kind of thing.

    Args:
        kind: what is registered, in the singular, as an error should name it ("callback").
        built_in: name to `package.module:attribute`.
        group: entry-point group that plugins use, e.g. `genai.callbacks`.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str], *, group: str) -> None:
        self.kind = kind
        self.group = group
        self._built_in = dict(built_in)

    def names(self) -> list[str]:
        """All names, built-ins and plugins, sorted."""
        return sorted({*self._built_in, *(point.name for point in self._entry_points())})

    def get(self, name: str) -> T:
        """The implementation called `name`.

        Raises:
            UsageError: no such name; the message suggests the nearest one.
        """
        target = self._built_in.get(name)
        if target is not None:
            module_name, _, attribute = target.partition(":")
            return cast(T, getattr(importlib.import_module(module_name), attribute))
        for point in self._entry_points():
            if point.name == name:
                return cast(T, cast(Any, point.load()))
        near = suggest(name, self.names())
        hint = f"did you mean '{near}'?" if near else f"known: {', '.join(self.names())}"
        raise UsageError(f"unknown {self.kind} '{name}'", fix=hint)

    def _entry_points(self) -> importlib.metadata.EntryPoints:
        return importlib.metadata.entry_points(group=self.group)
