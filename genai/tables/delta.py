"""Delta tables at one version, by the `deltalake` package, which is imported nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from genai.errors import DataError, MissingExtraError, UsageError
from genai.storage import is_remote

_BATCH_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class DeltaTable:
    """One version of a table; what is written to it later is not seen."""

    uri: str
    """Folder or URL, as the user wrote it."""
    version: int
    """Which version this is."""
    schema: Mapping[str, str]
    """Column -> type, in Delta's words for primitive types, else as JSON."""
    file_bytes: tuple[int, ...]
    """Size of each of its files."""
    fragments: tuple[Any, ...] = field(repr=False, compare=False)
    """The files, in the order of their paths, as pyarrow reads them."""
    arrow_schema: Any = field(repr=False, compare=False)
    """The schema that all of them are read with, partition columns among it."""

    def rows(self, start: int, end: int) -> Iterator[dict[str, Any]]:
        """The rows of the files from `start` up to, not including, `end`."""
        for fragment in self.fragments[start:end]:
            for batch in fragment.to_batches(schema=self.arrow_schema, batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()


def open_delta(uri: str, version: int | None = None) -> DeltaTable:
    """Open a table.

    Args:
        uri: folder, `file://`, `s3://...`
        version: which version; None takes the newest there is now.

    Raises:
        UsageError: there is no table, or no such version.
        DataError: the table uses a feature that cannot be read.
        MissingExtraError: `deltalake` is not installed.
    """
    try:
        import deltalake
        from deltalake.exceptions import DeltaError, TableNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtraError("deltalake", extra="delta", needed_for=f"reading delta:{uri}") from error
    try:
        table = deltalake.DeltaTable(uri, version=version, storage_options=_storage_options(uri))
        dataset = table.to_pyarrow_dataset()
        fragments = tuple(sorted(dataset.get_fragments(), key=lambda fragment: fragment.path))
        return DeltaTable(
            uri=uri,
            version=table.version(),
            schema=_schema(table),
            file_bytes=tuple(fragment.filesystem.get_file_info(fragment.path).size for fragment in fragments),
            fragments=fragments,
            arrow_schema=dataset.schema,
        )
    except TableNotFoundError as error:
        raise UsageError("there is no Delta table", where=uri, fix="name the folder that holds _delta_log") from error
    except (DeltaError, OSError) as error:
        if version is not None and (newest := _newest(uri)) is not None and version > newest:
            raise UsageError(f"the table has no version {version}", where=uri, fix=f"the newest is {newest}") from error
        raise DataError(f"the Delta table cannot be read: {_first_line(error)}", where=uri) from error


def _newest(uri: str) -> int | None:
    import deltalake
    from deltalake.exceptions import DeltaError

    try:
        return int(deltalake.DeltaTable(uri, storage_options=_storage_options(uri)).version())
    except (DeltaError, OSError):
        return None


def _schema(table: Any) -> dict[str, str]:
    """Column -> type."""
    return {item.name: str(getattr(item.type, "type", None) or item.type.to_json()) for item in table.schema().fields}


def _storage_options(uri: str) -> dict[str, str] | None:
    """deltalake reads AWS_* from the environment, but for leave to use an endpoint without TLS."""
    if is_remote(uri) and os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        return {"AWS_ALLOW_HTTP": "true"}
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
