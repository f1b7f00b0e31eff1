"""A table that needs no files: `open_table` of jobs that read `delta:` references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from genai.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class FakeTable:
    """Two files of a table."""

    uri: str
    version: int
    schema: Mapping[str, str] = field(default_factory=lambda: {"text": "string"})
    file_bytes: tuple[int, ...] = (60, 60)

    def rows(self, start: int, end: int) -> Iterator[dict[str, Any]]:
        yield from ({"text": f"row {number} of {self.uri}"} for number in range(start, end))


def open_fake(uri: str, version: int | None) -> FakeTable:
    if uri == "nothing":
        raise UsageError("there is no Delta table", where=uri, fix="name the folder that holds _delta_log")
    return FakeTable(uri=uri, version=7 if version is None else version)
