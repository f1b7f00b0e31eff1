"""What this room asks of tables that keep their versions, which another room reads, and how a job file names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from genai.data.readers import Record
from genai.errors import UsageError

SCHEME = "delta:"


class Table(Protocol):
    """A table at one version, met by `genai.tables.delta`."""

    @property
    def uri(self) -> str:
        """Where it is."""

    @property
    def version(self) -> int:
        """Which of its versions this is."""

    @property
    def schema(self) -> Mapping[str, str]:
        """Column -> type."""

    @property
    def file_bytes(self) -> Sequence[int]:
        """Size of each piece that can be read by itself, in the order in which they are read."""

    def rows(self, start: int, end: int) -> Iterator[dict[str, Any]]:
        """The rows of the pieces from `start` up to, not including, `end`; in the same order each time."""


class OpenTable(Protocol):
    """Opens a table, in this process or in a worker."""

    def __call__(self, uri: str, version: int | None) -> Table: ...


def split_table_reference(reference: str) -> tuple[str, int | None]:
    """URI and version of `delta:URI[@VERSION]`.

    Raises:
        UsageError: there is no URI, or the version is no number.
    """
    uri, at, version = reference.removeprefix(SCHEME).rpartition("@")
    if not at or "/" in version:
        uri, version = reference.removeprefix(SCHEME), ""
    if not uri or (at and version and not version.isdigit()):
        raise UsageError(f"'{reference}' names no table", fix="write delta:URI or delta:URI@VERSION, e.g. delta:faq@3")
    return uri, int(version) if version else None


def name_of(table: Table) -> str:
    """The reference of exactly this version."""
    return f"{SCHEME}{table.uri}@{table.version}"


def table_records(table: Table) -> Iterator[Record]:
    """All rows of a table."""
    name = name_of(table)
    for number, values in enumerate(table.rows(0, len(table.file_bytes)), 1):
        yield Record(values=values, source=f"{name}[{number}]")
