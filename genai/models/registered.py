"""The models that runs registered, as `genai models ls` and `show` tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genai.tracking import registry
from genai.tracking.registry import ModelVersion


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A version and the aliases that name it now."""

    version: ModelVersion
    aliases: tuple[str, ...]
    """Sorted."""


def list_registered(runs_dir: str | Path) -> list[Registered]:
    """Every version of every name, by name, the oldest first.

    Raises:
        DataError: a file of the registry cannot be read.
    """
    found = []
    for name in registry.names(runs_dir):
        named = registry.aliases(runs_dir, name)
        for version in registry.versions(runs_dir, name):
            aliases = sorted(alias for alias, number in named.items() if number == version.version)
            found.append(Registered(version=version, aliases=tuple(aliases)))
    return found


def origin_of(reference: str, runs_dir: str | Path) -> str | None:
    """Where a model of the registry came from, in a line; None for any other reference."""
    scheme, _, rest = reference.partition(":")
    if scheme != "registry":
        return None
    version = registry.find(runs_dir, rest)
    return f"run {version.run}, tuned from {version.tuned_from}, registered at {version.created_at}"
