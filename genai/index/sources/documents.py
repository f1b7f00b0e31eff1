"""Folders and buckets of PDF, HTML, Markdown, Word and text files as a source."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from genai.config.index import ColumnType, IndexSourceConfig
from genai.config.sizes import parse_size
from genai.data.documents import IsolatedParser, ParseLimits
from genai.errors import ConfigError, Problem
from genai.index.interfaces import Change, Changes, Document, Section
from genai.index.sources.document_files import Folder, FoundFile
from genai.index.sources.document_objects import Bucket
from genai.index.sources.patterns import suffix_of
from genai.registry import suggest
from genai.storage import is_remote

COLUMNS: Mapping[str, ColumnType] = {
    "path": "keyword",
    "suffix": "keyword",
    "size_bytes": "integer",
    "modified": "datetime",
}
"""Metadata of every document."""
_REMEMBERED = "_files"
"""Where a state holds what was hashed: key -> stamp and version. It is memory, no part of the position."""


def open_document_source(config: IndexSourceConfig) -> DocumentSource:
    """The documents that a config names; nothing is read yet.

    Raises:
        ConfigError: settings that only tables have, or columns that documents do not have.
        UsageError: files that are no documents, limits that are too narrow, no store for such a URL.
    """
    problems = list(_problems(config))
    if problems:
        raise ConfigError(problems)
    return DocumentSource(config)


class DocumentSource:
    """Every document once, each time: a folder does not tell what changed in it. Unchanged ones are never opened.

    Args:
        config: `source`, with `documents`.
    """

    def __init__(self, config: IndexSourceConfig) -> None:
        assert config.documents is not None
        self._uri = config.documents
        kind = Bucket if is_remote(config.documents) else Folder
        self._files = kind(config.documents, config.include, config.exclude)
        self._most_bytes = parse_size(config.limits.file_size)
        memory_bytes = parse_size(config.limits.memory)
        self._parser = IsolatedParser(ParseLimits(time_s=config.limits.time_s, memory_bytes=memory_bytes))

    @property
    def uri(self) -> str:
        """As the job file has it."""
        return self._uri

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The same for all documents."""
        return COLUMNS

    def position(self) -> Mapping[str, Any]:
        """A hash over the paths, sizes and times (or etags) of all documents, none of which is opened.

        Raises:
            DataError: there is no such folder.
            GenaiError: it cannot be listed.
        """
        return _position(self._files.find())

    def changes(self, state: Mapping[str, Any] | None) -> Changes:
        """All documents. What was hashed before, and has not been touched since, is not hashed again.

        Args:
            state: of the last sync; it is complete once all rows have come.

        Raises:
            DataError: there is no such folder.
            GenaiError: it cannot be listed.
        """
        found = self._files.find()
        before = (state or {}).get(_REMEMBERED, {})
        remembered: dict[str, list[str]] = {}
        now = {**_position(found), _REMEMBERED: remembered}
        return Changes(state=now, complete=True, rows=self._rows(found, before, remembered), total=len(found))

    def close(self) -> None:
        """End the process that parses; a further document would start another one."""
        self._parser.close()

    def _rows(
        self, found: Sequence[FoundFile], before: Mapping[str, Sequence[str]], remembered: dict[str, list[str]]
    ) -> Iterator[Change]:
        for file in found:
            stamp, version = before.get(file.key, ("", ""))
            if not stamp or stamp != file.stamp:
                version = f"large-{file.size_bytes}" if file.size_bytes > self._most_bytes else file.version()
            if file.stamp and file.stamp != version:  # an etag says it all
                remembered[file.key] = [file.stamp, version]
            yield Change(key=file.key, kind="upsert", version=version, load=partial(self._load, file))

    def _load(self, file: FoundFile) -> Document:
        suffix = suffix_of(file.key)
        parsed = self._parser.parse(file.read(self._most_bytes), suffix, name=file.name)
        return Document(
            key=file.key,
            text=parsed.text,
            metadata={
                "path": file.key,
                "suffix": suffix,
                "size_bytes": file.size_bytes,
                "modified": file.modified,
            },
            source=file.name,
            page_starts=parsed.page_starts,
            sections=tuple(
                Section(start=section.start, level=section.level, title=section.title) for section in parsed.sections
            ),
        )


def _position(found: Sequence[FoundFile]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for file in found:
        # a file that is too young to tell whether it changes once more makes a position like no other
        stamp = file.stamp or str(time.time_ns())
        digest.update(f"{file.key}\0{stamp}\0".encode())
    return {"files": len(found), "listing": digest.hexdigest()}


def _problems(config: IndexSourceConfig) -> Iterator[Problem]:
    for name in ("primary_key", "text", "tenant"):
        if getattr(config, name):
            message = f"'{name}' names a column of a table, but documents have none"
            yield Problem(message=message, where=f"source.{name}", fix="leave it out")
    for name in config.metadata:
        if name not in COLUMNS:
            near = suggest(name, COLUMNS)
            fix = f"did you mean '{near}'?" if near else f"documents have {', '.join(COLUMNS)}"
            yield Problem(message=f"documents have no column '{name}'", where="source.metadata", fix=fix)
