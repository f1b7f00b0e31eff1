"""Rows of a table as documents: a key, a text, typed metadata, and a version that changes when one of them does."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from genai.config.index import ColumnType, IndexSourceConfig
from genai.errors import DataError
from genai.index.interfaces import Change, Document
from genai.index.sources.values import convert

_BETWEEN_TEXTS = "\n\n"
_VERSION_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class RowShape:
    """Which columns of a table make a document."""

    key: str
    """The primary key."""
    text: tuple[str, ...]
    """What is embedded, joined by an empty line."""
    metadata: Mapping[str, ColumnType]
    """What can be asked for."""
    tenant: str | None
    """Whom a row belongs to."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All that are read, each once, the key first."""
        tenant = () if self.tenant is None else (self.tenant,)
        return tuple(dict.fromkeys((self.key, *self.text, *self.metadata, *tenant)))

    def document(self, values: Mapping[str, Any], uri: str) -> Document:
        """A row as a document.

        Args:
            values: its columns; what is missing counts as null.
            uri: of the table or file.

        Raises:
            DataError: a value is not what its column should hold.
        """
        key = key_text(values.get(self.key))
        where = f"{uri}[{key}]"
        try:
            found = {name: convert(values.get(name), kind, name) for name, kind in self.metadata.items()}
            return Document(
                key=key or "",
                text=_BETWEEN_TEXTS.join(filter(None, (_text(values.get(name), name) for name in self.text))),
                metadata={name: value for name, value in found.items() if value is not None},
                tenant=None if self.tenant is None else _tenant(values.get(self.tenant), self.tenant),
                source=where,
            )
        except DataError as error:
            raise DataError(error.message, where=where, fix=error.fix) from error

    def change(self, values: Mapping[str, Any], uri: str) -> Change:
        """A row that is there, as a change; one that cannot be used says so when it is loaded."""
        key = key_text(values.get(self.key)) or ""
        try:
            document = self.document(values, uri)
        except DataError as error:
            return refused(key, error, version=repr([values.get(name) for name in self.columns]))
        said = [document.text, sorted(document.metadata.items()), document.tenant]
        return Change(key=key, kind="upsert", version=_digest(json.dumps(said)), load=lambda: document)


def shape_of(config: IndexSourceConfig, metadata: Mapping[str, ColumnType]) -> RowShape:
    """The columns that a job file names.

    Args:
        config: `source`, with primary_key and text.
        metadata: its metadata columns with their types.
    """
    assert config.primary_key is not None and config.text is not None
    texts = (config.text,) if isinstance(config.text, str) else tuple(config.text)
    return RowShape(key=config.primary_key, text=texts, metadata=dict(metadata), tenant=config.tenant)


def refused(key: str, error: DataError, *, version: str) -> Change:
    """A row that cannot be used.

    Args:
        key: what it is reported by.
        error: raised when somebody wants the row.
        version: its content, in whatever form.
    """

    def load() -> Document:
        raise error

    return Change(key=key, kind="upsert", version=_digest(version), load=load)


def key_text(value: Any) -> str | None:
    """A primary key as text; None where there is none, also for an empty text.

    Raises:
        DataError: it is of a type that names nothing for ever.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str | int | Decimal | UUID) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{value!r} cannot be a primary key", fix="a text or a whole number can")


def check_keys(keys: Iterable[Any], column: str, uri: str) -> int:
    """See that every row has a key of its own; gives the number of rows.

    Raises:
        DataError: rows have no key, or several have the same one.
    """
    counts = Counter(key_text(value) for value in keys)
    check_counts({key: number for key, number in counts.items() if key is None or number > 1}, column, uri)
    return counts.total()


def check_counts(wrong: Mapping[Any, int], column: str, uri: str) -> None:
    """Refuse keys that come more than once.

    Args:
        wrong: key -> number of rows, of those keys that several rows have; None -> number of rows without one.
        column: the primary key.
        uri: of the table.

    Raises:
        DataError: there are any.
    """
    if missing := wrong.get(None, 0):
        fix = f"fill '{column}' in every row, or name another source.primary_key"
        raise DataError(f"{missing} rows have no '{column}', which is the primary key", where=uri, fix=fix)
    if wrong:
        example, number = next(iter(wrong.items()))
        message = f"{len(wrong)} values of the primary key '{column}' are not unique, e.g. {example!r} in {number} rows"
        raise DataError(message, where=uri, fix="name a source.primary_key that is different in every row")


def _text(value: Any, name: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"'{name}' is {type(value).__name__}, not a text", fix="name a column of texts in source.text")


def _tenant(value: Any, name: str) -> str:
    tenant = convert(value, "keyword", name)
    if isinstance(tenant, str) and tenant:
        return tenant
    raise DataError(f"'{name}' does not say whom the row belongs to", fix=f"fill '{name}', which is source.tenant")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_VERSION_BYTES).hexdigest()
