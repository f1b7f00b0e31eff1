"""What happened to the rows of a Delta table between two of its versions, one change a key.

The change data feed of `deltalake` gives every row that came or went with its version, in no order, and a commit that
replaces rows (merge, overwrite, restore) names them as gone and as new at once. Read by version, with what goes before
what comes, the last word about a key is how it stands: Delta's protocol, section "Change Data Files".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from genai.errors import DataError
from genai.tables.delta import DeltaTable

_COMES = {"insert": True, "update_postimage": True, "delete": False, "update_preimage": False}


class FeedError(DataError):
    """The changes cannot be told; all rows must be looked at."""


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """How a row stands now that was changed."""

    key: Any
    """The value of its key column."""
    kind: Literal["upsert", "delete"]
    """Whether it is there."""
    values: dict[str, Any]
    """Its columns, the key among them; of a row that is gone only the key."""


@dataclass(frozen=True, kw_only=True)
class RowChanges:
    """All changed rows, each once."""

    total: int
    """How many."""
    added: list[Any]
    """Keys of which more rows came than went: new ones, unless they were there before."""
    rows: Iterator[RowChange]
    """In the order of the versions that last changed them."""


@dataclass(kw_only=True, slots=True)
class _Story:
    """What the feed says of one key."""

    version: int
    """Of the last change."""
    comes: bool
    """Whether the row came with it."""
    values: dict[str, Any]
    """The row."""
    gained: int
    """How many rows of this key came, less those that went."""


def read_changes(table: DeltaTable, since: int, *, key: str, columns: tuple[str, ...]) -> RowChanges:
    """What changed after version `since` up to the version of `table`. All of it is read before this returns.

    Args:
        table: opened at the later version.
        since: the earlier version.
        key: the column that names a row.
        columns: what is wanted of rows that are there.

    Raises:
        FeedError: the changes cannot be told: the message says why.
        DataError: a key was added twice, or a row without one.
    """
    try:
        stories = _read(table, since, key, columns) if since != table.version else {}
    except DataError as error:
        raise FeedError(error.message, where=table.uri) from error
    _check_keys(stories, key, table.uri)
    stories.pop(None, None)
    added = [name for name, story in stories.items() if story.gained > 0]
    ordered = sorted(stories, key=lambda name: stories[name].version)
    return RowChanges(total=len(ordered), added=added, rows=(_change(name, stories.pop(name), key) for name in ordered))


def _read(table: DeltaTable, since: int, key: str, columns: tuple[str, ...]) -> dict[Any, _Story]:
    """Key -> the last that is said of it, where the feed can be believed.

    Raises:
        DataError: it cannot.
    """
    if since > table.version:
        raise DataError(f"version {table.version} is before version {since}")
    if "columnMapping" in table.features:
        raise DataError("the table has renamed columns, for which there is no feed")
    # Of a file with a vector that is replaced, deltalake 1.6 names those rows as gone that were gone long before.
    if "deletionVectors" in table.features and table.has_vectors(since):
        raise DataError("rows were deleted by deletion vectors, which the feed gets wrong")
    stories: dict[Any, _Story] = {}
    for row in table.feed(since, tuple(dict.fromkeys((key, *columns)))):
        comes, version = _COMES[row.pop("_change_type")], row.pop("_commit_version")
        gain = 1 if comes else -1
        story = stories.get(row[key])
        if story is None:
            stories[row[key]] = _Story(version=version, comes=comes, values=row, gained=gain)
            continue
        story.gained += gain
        if (version, comes) >= (story.version, story.comes):
            story.version, story.comes, story.values = version, comes, row
    return stories


def _check_keys(stories: dict[Any, _Story], key: str, uri: str) -> None:
    """Refuse what cannot be taken as one row a key."""
    twice = [name for name, story in stories.items() if name is not None and story.gained > 1]
    if twice:
        message = f"{len(twice)} values of '{key}' were added more than once, e.g. {twice[0]!r}"
        raise DataError(message, where=uri, fix="a primary key names one row")
    if None in stories and stories[None].gained > 0:
        raise DataError(f"{stories[None].gained} rows were added without '{key}'", where=uri)


def _change(name: Any, story: _Story, key: str) -> RowChange:
    if story.comes:
        return RowChange(key=name, kind="upsert", values=story.values)
    return RowChange(key=name, kind="delete", values={key: name})
