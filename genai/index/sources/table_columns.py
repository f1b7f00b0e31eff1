"""The columns that a job file names of a table: which, of what type, and whether the table has them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping

from genai.config.index import ColumnType, IndexSourceConfig
from genai.errors import ConfigError, Problem
from genai.registry import suggest


def what_is_read(config: IndexSourceConfig) -> str:
    """Changes when other columns are read, so that a state of before does not look like one of now."""
    metadata = config.metadata if isinstance(config.metadata, list) else sorted(config.metadata.items())
    said = [config.primary_key, config.text, metadata, config.tenant]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def wanted_columns(config: IndexSourceConfig) -> Iterator[tuple[str, str]]:
    """The key of the job file and the column, of each column that it names but for metadata."""
    if config.primary_key is not None:
        yield "source.primary_key", config.primary_key
    for name in [config.text] if isinstance(config.text, str) else config.text or ():
        yield "source.text", name
    if config.tenant is not None:
        yield "source.tenant", config.tenant


def declared_types(config: IndexSourceConfig) -> dict[str, ColumnType | None]:
    """The metadata columns with their types; None where the job file leaves them to the table."""
    return dict(config.metadata) if isinstance(config.metadata, dict) else dict.fromkeys(config.metadata)


def absent_columns(config: IndexSourceConfig, known: Collection[str], uri: str) -> Iterator[Problem]:
    """A problem for each column that the job file names and the table lacks."""
    named = [*wanted_columns(config), *(("source.metadata", name) for name in declared_types(config))]
    for key, name in dict.fromkeys(named):
        if name not in known:
            near = suggest(name, known)
            fix = f"did you mean '{near}'?" if near else f"the columns are: {', '.join(known)}"
            yield Problem(message=f"{uri} has no column '{name}'", where=key, fix=fix)


def settled(types: Mapping[str, ColumnType | None], problems: list[Problem]) -> dict[str, ColumnType]:
    """The types of the metadata columns, all of them known.

    Raises:
        ConfigError: there are problems.
    """
    if problems:
        raise ConfigError(problems)
    return {name: kind for name, kind in types.items() if kind is not None}
