"""A Delta table as a source: the rows that changed since a version, or all of one version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from genai.config.index import ColumnType, IndexSourceConfig
from genai.data.tables import split_table_reference
from genai.errors import Problem
from genai.index.interfaces import Change, Changes
from genai.index.sources.rows import RowShape, check_counts, key_text, shape_of
from genai.index.sources.table_columns import absent_columns, declared_types, settled, wanted_columns, what_is_read
from genai.index.sources.values import type_of_delta
from genai.log import get_logger
from genai.tables.delta import DeltaTable, open_delta
from genai.tables.delta_feed import FeedError, RowChanges, read_changes

_KEYS = frozenset({"string", "byte", "short", "integer", "long", "date", "timestamp", "timestamp_ntz"})
_TEXTS = frozenset({"string", "byte", "short", "integer", "long"})
_MOST_KEYS_A_QUESTION = 1000
_log = get_logger(__name__)


class DeltaSource:
    """Follows a Delta table, or stands at one version of it.

    Args:
        config: `source`; its table is `delta:URI` or `delta:URI@VERSION`.

    Raises:
        UsageError: the reference names no table.
    """

    def __init__(self, config: IndexSourceConfig) -> None:
        assert config.table is not None
        self._config = config
        self._place, self._version = split_table_reference(config.table)
        self._shape: RowShape | None = None

    @property
    def uri(self) -> str:
        """As the job file has it."""
        return self._config.table or ""

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The metadata columns with their types, as of the version that was read last."""
        return (self._shape or self._shape_of(self._open())).metadata

    def position(self) -> Mapping[str, Any]:
        """The table and its version; only its log is read for that."""
        return self._state(self._open())

    def changes(self, state: Mapping[str, Any] | None) -> Changes:
        """What happened since, or all rows where that cannot be told.

        Raises:
            UsageError: there is no table, or it lacks a column that the job file names.
            DataError: it cannot be read, or a row has no key of its own.
        """
        table = self._open()
        self._shape = shape = self._shape_of(table)
        found = self._changes_since(table, shape, state)
        if found is not None:
            rows = (self._change(shape, change.kind, change.values) for change in found.rows)
            return Changes(state=self._state(table), complete=False, rows=rows, total=found.total)
        self._check_keys(table, shape)
        return Changes(
            state=self._state(table), complete=True, rows=self._all_rows(table, shape), total=table.count_rows()
        )

    def _open(self) -> DeltaTable:
        return open_delta(self._place, self._version)

    def _state(self, table: DeltaTable) -> dict[str, Any]:
        return {"table_id": table.table_id, "version": table.version, "reads": what_is_read(self._config)}

    def _changes_since(self, table: DeltaTable, shape: RowShape, state: Mapping[str, Any] | None) -> RowChanges | None:
        """The changes since a state; None, with a line that says why, where all rows must be looked at."""
        if state is None:
            return None
        try:
            self._check_state(state, table)
            found = read_changes(table, state["version"], key=shape.key, columns=shape.columns)
        except FeedError as error:
            _log.info("%s: all rows are compared, since %s", self.uri, error.message)
            return None
        if found.added:
            # That a key was added which was there before, only the table can tell.
            few = len(found.added) <= _MOST_KEYS_A_QUESTION and all(isinstance(key, str | int) for key in found.added)
            self._check_keys(table, shape, found.added if few else None)
        return found

    def _check_state(self, state: Mapping[str, Any], table: DeltaTable) -> None:
        """Refuse a state from which no feed leads to now."""
        if state.get("reads") != what_is_read(self._config):
            raise FeedError("the job file names other columns than at the last sync")
        if state.get("table_id") != table.table_id:
            raise FeedError("another table lies there than at the last sync")

    def _check_keys(self, table: DeltaTable, shape: RowShape, among: Sequence[Any] | None = None) -> None:
        """See that every row has a key of its own."""
        wrong = Counter[str | None]()
        for value, number in table.repeated(shape.key, among):
            wrong[key_text(value)] += number
        check_counts(wrong, shape.key, self.uri)

    def _all_rows(self, table: DeltaTable, shape: RowShape) -> Iterator[Change]:
        for values in table.all_rows(shape.columns):
            yield shape.change(values, self.uri)

    def _change(self, shape: RowShape, kind: str, values: Mapping[str, Any]) -> Change:
        if kind == "upsert":
            return shape.change(values, self.uri)
        return Change(key=key_text(values[shape.key]) or "", kind="delete")

    def _shape_of(self, table: DeltaTable) -> RowShape:
        """The columns, held against the table's schema.

        Raises:
            ConfigError: one is not there, or of a type that does not fit; all of them are named.
        """
        problems = list(absent_columns(self._config, table.schema, self.uri))
        for key, name in wanted_columns(self._config):
            fitting = _TEXTS if key == "source.text" else _KEYS
            found = table.schema.get(name)
            if found is not None and found not in fitting and not found.startswith("decimal"):
                what = "holds no text" if key == "source.text" else "cannot name anything"
                problems.append(Problem(message=f"'{name}' is of type {found}, which {what}", where=key))
        types = declared_types(self._config)
        for name in (name for name, kind in types.items() if kind is None and name in table.schema):
            types[name] = type_of_delta(table.schema[name])
            if types[name] is None:
                message = f"'{name}' is of type {table.schema[name]}, which no filter can use"
                problems.append(Problem(message=message, where="source.metadata", fix="leave it out"))
        return shape_of(self._config, settled(types, problems))
