"""Parquet, JSONL and CSV files as a source: all their rows, since a file does not tell what changed in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from genai.config.index import ColumnType, IndexSourceConfig
from genai.data.readers import Record, SourceFile, read_file, suffix_of
from genai.data.rows import BadRow
from genai.data.sources import find_files
from genai.errors import DataError, Problem
from genai.index.interfaces import Change, Changes
from genai.index.sources.rows import RowShape, check_keys, refused, shape_of
from genai.index.sources.table_columns import absent_columns, declared_types, settled, what_is_read
from genai.index.sources.values import type_of_values
from genai.log import get_logger
from genai.storage import is_remote
from genai.storage.fetch import find_objects

_NUM_FIRST = 1000
"""Rows that are looked at to know the columns and their types."""
_TEXT_ONLY = frozenset({".csv", ".tsv"})
"""Files that hold nothing but texts; an empty one stands for null."""
_log = get_logger(__name__)


class FileSource:
    """All rows of one or more files.

    Args:
        config: `source`; its table is a path, a pattern or a URL.
    """

    def __init__(self, config: IndexSourceConfig) -> None:
        assert config.table is not None
        self._config = config
        self._shape: RowShape | None = None

    @property
    def uri(self) -> str:
        """As the job file has it."""
        return self._config.table or ""

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The metadata columns with their types, as of the files that were read last."""
        return (self._shape or self._shape_of(self._files())).metadata

    def position(self) -> Mapping[str, Any]:
        """The names, sizes and times (or etags) of the files, as one hash; none of them is read.

        Raises:
            UsageError, DataError: there are none, or they cannot be listed.
        """
        if is_remote(self.uri):
            listed = [(info.key, info.size_bytes, info.etag or info.modified) for info in find_objects(self.uri)]
        else:
            found = [(file.name, file.path.stat()) for file in self._files()]
            listed = [(name, stat.st_size, str(stat.st_mtime_ns)) for name, stat in found]
        listing = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        return {"files": len(listed), "listing": listing, "reads": what_is_read(self._config)}

    def changes(self, state: Mapping[str, Any] | None) -> Changes:
        """All rows, whatever the state.

        Raises:
            UsageError: a file is not there, damaged or empty, or lacks a column that the job file names.
            DataError: a row has no key of its own.
        """
        now = self.position()  # before the files are read: what is written meanwhile is seen the next time
        files = self._files()
        self._shape = shape = self._shape_of(files)
        keys = (record.values.get(shape.key) for _, record in _records(files) if isinstance(record, Record))
        total = check_keys(keys, shape.key, self.uri)
        return Changes(state=now, complete=True, rows=self._rows(files, shape), total=total)

    def _files(self) -> list[SourceFile]:
        return find_files([self.uri])[self.uri]

    def _rows(self, files: Sequence[SourceFile], shape: RowShape) -> Iterator[Change]:
        for file, record in _records(files):
            if isinstance(record, BadRow):
                error = DataError(record.reason, where=record.source)
                yield refused(record.source, error, version=record.reason)
            else:
                yield shape.change(record.values, file.name)

    def _shape_of(self, files: Sequence[SourceFile]) -> RowShape:
        """The columns, held against the first rows.

        Raises:
            ConfigError: one is not there, or the rows do not tell its type; all of them are named.
            DataError: none of the first rows can be read.
        """
        first = list(
            islice(((file, found) for file, found in _records(files) if isinstance(found, Record)), _NUM_FIRST)
        )
        if not first:
            raise DataError("no row can be read", where=self.uri, fix="genai data inspect says what is wrong")
        known = list(dict.fromkeys(name for _, record in first for name in record.values))
        types = declared_types(self._config)
        problems = list(self._absent(known, types))
        for name in (name for name, kind in types.items() if kind is None and name in known):
            as_text = all(suffix_of(file.path) in _TEXT_ONLY for file, _ in first)
            types[name] = type_of_values([record.values.get(name) for _, record in first], as_text=as_text)
            if types[name] is None:
                message = f"the first {len(first)} rows do not tell the type of '{name}'"
                fix = f"declare it: metadata: {{{name}: keyword}}"
                problems.append(Problem(message=message, where="source.metadata", fix=fix))
        return shape_of(self._config, settled(types, problems))

    def _absent(self, known: Sequence[str], types: Mapping[str, ColumnType | None]) -> Iterator[Problem]:
        """Columns that are missing; one whose type was declared may be rare."""
        for problem in absent_columns(self._config, known, self.uri):
            if problem.where == "source.metadata" and None not in types.values():
                _log.warning("%s (%s)", problem.message, problem.fix)
            else:
                yield problem


def _records(files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, Record | BadRow]]:
    for file in files:
        is_text_only = suffix_of(file.path) in _TEXT_ONLY
        for record in read_file(file):
            if is_text_only and isinstance(record, Record):
                record = Record(
                    values={name: value or None for name, value in record.values.items()}, source=record.source
                )
            yield file, record
