"""Delta tables at one version, by the `deltalake` package, which is imported nowhere else.

Two ways lead to the rows. Files one by one, by pyarrow, which several processes can share; it is right only where a
row is what its file says. And the engine of `deltalake` itself, which also knows deletion vectors, renamed columns and
whatever else a table may need; it gives all rows in one go.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from genai.errors import DataError, MissingExtraError, UsageError
from genai.storage import is_remote

_BATCH_ROWS = 1024
_ONE_AFTER_ANOTHER = {
    "datafusion.execution.target_partitions": "1",
    "datafusion.execution.batch_size": str(_BATCH_ROWS),
}
"""The engine reads file after file, so that a version gives its rows in the same order each time."""
_PATIENCE = {"max_retries": "5", "retry_timeout": "60s"}
"""For a bucket that does not answer; by itself the engine goes on for minutes."""
_BY_FILE = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
"""Features of tables whose files hold the rows as they are."""
_MAPPING = "delta.columnMapping.mode"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_GONE = re.compile(r"\.parquet.*(not found|No such file)", re.IGNORECASE | re.DOTALL)
_MOST_LETTERS = 400


@dataclass(frozen=True, kw_only=True)
class DeltaTable:
    """One version of a table; what is written to it later is not seen."""

    uri: str
    """Folder or URL, as the user wrote it."""
    table_id: str
    """Given when the table was made: another table at the same place has another one."""
    version: int
    """Which version this is."""
    schema: Mapping[str, str]
    """Column -> type, in Delta's words for primitive types, else as JSON."""
    features: frozenset[str]
    """What its reader must know beyond the basics, in the protocol's words."""
    opened: Any = field(repr=False, compare=False)
    """As `deltalake` has it."""

    @property
    def is_by_file(self) -> bool:
        """Whether every file by itself holds rows as they are."""
        return self.features <= _BY_FILE

    @cached_property
    def file_bytes(self) -> tuple[int, ...]:
        """Size of each piece that can be read by itself: of each file, or of all of them together."""
        actions = self.opened.get_add_actions()
        paths, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
        if not self.is_by_file:
            return (sum(sizes),) if sizes else ()
        return tuple(size for _, size in sorted(zip(paths, sizes, strict=True)))

    @cached_property
    def _dataset(self) -> tuple[Any, list[Any]]:
        """The schema with the partition columns, and the files in the order of their paths."""
        with _explained(self.uri):
            dataset = self.opened.to_pyarrow_dataset()
            return dataset.schema, sorted(dataset.get_fragments(), key=lambda fragment: fragment.path)

    def rows(self, start: int, end: int) -> Iterator[dict[str, Any]]:
        """The rows of the pieces from `start` up to, not including, `end`.

        Raises:
            DataError: they cannot be read.
        """
        if not self.is_by_file:
            yield from self.all_rows() if start <= 0 < end else ()
            return
        schema, fragments = self._dataset
        for fragment in fragments[start:end]:
            with _explained(self.uri):
                for batch in fragment.to_batches(schema=schema, batch_size=_BATCH_ROWS):
                    yield from batch.to_pylist()

    def all_rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """All rows, read by the engine of `deltalake`.

        Args:
            columns: which ones; by default all.

        Raises:
            DataError: they cannot be read.
        """
        wanted = ", ".join(_quoted(name) for name in columns or self.schema)
        yield from self._query(f"select {wanted} from rows")

    def repeated(self, column: str, among: Sequence[str] | Sequence[int] | None = None) -> list[tuple[Any, int]]:
        """The values that several rows have, and null or an empty text where any row has it, with the number of rows.

        Args:
            column: where they stand.
            among: values to look for; by default all. Where they lie close together, most files need not be read.
        """
        name = _quoted(column)
        where = "" if among is None else f"where {name} in ({', '.join(map(_literal, among))})"
        having = f"having count(*) > 1 or {name} is null or cast({name} as varchar) = ''"
        query = f"select {name} as value, count(*) as number from rows {where} group by {name} {having}"
        return [(row["value"], row["number"]) for row in self._query(query)]

    def count_rows(self) -> int:
        """How many rows there are."""
        return next(int(row["number"]) for row in self._query("select count(*) as number from rows"))

    def has_vectors(self, since: int) -> bool:
        """Whether a commit after `since` up to this version says which rows of a file are gone: a deletion vector.

        Raises:
            DataError: a commit is no longer there.
        """
        from deltalake.fs import DeltaStorageHandler

        with _explained(self.uri):
            handler = DeltaStorageHandler(self.opened.table_uri, _storage_options(self.uri))
            for version in range(since + 1, self.version + 1):
                with handler.open_input_file(f"_delta_log/{version:020}.json") as log:
                    if any(_names_vector(line) for line in log.read().splitlines()):
                        return True
        return False

    def _query(self, query: str) -> Iterator[dict[str, Any]]:
        from deltalake import QueryBuilder

        with _explained(self.uri):
            stream = QueryBuilder(_ONE_AFTER_ANOTHER).register("rows", self.opened).execute(query)
            for batch in _arrow().RecordBatchReader.from_stream(stream):
                yield from batch.to_pylist()

    def feed(self, since: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The change data feed from the version after `since` up to this one, row by row, in no order.

        Args:
            since: a version before this one; not this one itself.
            columns: which ones; those of the feed itself (`_change_type`, `_commit_version`) come with them.

        Raises:
            DataError: it cannot be read: it was switched off, or a part of it is no longer there.
        """
        wanted = [*columns, "_change_type", "_commit_version"]
        with _explained(self.uri):
            # Never with allow_out_of_range: with that a range whose commits were cleaned away looks like no change.
            stream = self.opened.load_cdf(since + 1, self.version, columns=wanted)
            for batch in _arrow().RecordBatchReader.from_stream(stream):
                yield from batch.to_pylist()


def open_delta(uri: str, version: int | None = None) -> DeltaTable:
    """Open a table. Nothing but its log is read yet, and pyarrow is not needed for that.

    Args:
        uri: folder, `file://`, `s3://...`
        version: which version; None takes the newest there is now.

    Raises:
        UsageError: there is no table, or no such version.
        DataError: the table uses a feature that cannot be read, or cannot be reached.
        MissingExtraError: `deltalake` is not installed.
    """
    try:
        import deltalake
        from deltalake.exceptions import TableNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtraError("deltalake", extra="delta", needed_for=f"reading delta:{uri}") from error
    try:
        with _explained(uri, absent=TableNotFoundError):
            opened = deltalake.DeltaTable(uri, version=version, storage_options=_storage_options(uri))
    except TableNotFoundError as error:
        raise UsageError("there is no Delta table", where=uri, fix="name the folder that holds _delta_log") from error
    except DataError as error:
        if version is not None and (newest := _newest(uri)) is not None and version > newest:
            raise UsageError(f"the table has no version {version}", where=uri, fix=f"the newest is {newest}") from error
        raise
    metadata = opened.metadata()
    return DeltaTable(
        uri=uri,
        table_id=str(metadata.id),
        version=int(opened.version()),
        schema=_schema(opened),
        features=_features(opened, metadata.configuration),
        opened=opened,
    )


def _newest(uri: str) -> int | None:
    try:
        return open_delta(uri).version
    except (DataError, UsageError):
        return None


def _schema(opened: Any) -> dict[str, str]:
    """Column -> type."""
    return {item.name: item.type.to_json().strip('"') for item in opened.schema().fields}


def _features(opened: Any, configuration: Mapping[str, str]) -> frozenset[str]:
    """The reader's features; before version 3 of the protocol there is one that only a property tells of."""
    listed = opened.protocol().reader_features or ()
    # A table may list the mapping of columns without ever having used it; then its columns have their own names.
    is_mapped = configuration.get(_MAPPING, "none") != "none"
    mapping = {"columnMapping"}
    return frozenset({*listed} - mapping | (mapping if is_mapped else set()))


def _storage_options(uri: str) -> dict[str, str] | None:
    """deltalake reads AWS_* from the environment, but for leave to use an endpoint without TLS."""
    if not is_remote(uri):
        return None
    without_tls = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {**_PATIENCE, **({"AWS_ALLOW_HTTP": "true"} if without_tls else {})}


def _names_vector(line: bytes) -> bool:
    action = json.loads(line) if b"deletionVector" in line else {}
    return any(action.get(kind, {}).get("deletionVector") for kind in ("add", "remove"))


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'{}'".format(value.replace("'", "''"))


def _arrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", extra="delta", needed_for="reading the rows of a Delta table") from error
    return pyarrow


@contextmanager
def _explained(uri: str, *, absent: type[Exception] | tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """What `deltalake` and pyarrow raise becomes one line; `absent` passes."""
    from deltalake.exceptions import DeltaError

    try:
        yield
    except absent:
        raise
    except (DeltaError, OSError, ValueError) as error:  # pyarrow's errors are OSErrors or ValueErrors
        reason = _reason(error)
        fix = "VACUUM removes files of older versions: read a newer one" if _GONE.search(str(error)) else None
        raise DataError(f"the Delta table cannot be read: {reason}", where=uri, fix=fix) from error


def _reason(error: Exception) -> str:
    """What a tree of causes says, on one line."""
    lines = [line.strip(" ↳\t") for line in _COLOURS.sub("", str(error)).splitlines()]
    text = ": ".join(line.rstrip(".:") for line in lines if line) or type(error).__name__
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS // 2]} ... {text[-_MOST_LETTERS // 2 :]}"
