"""Pieces of inputs as documents: a text, or a row with the columns that the shards will have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from genai.config.finetune import FinetuningDatasetConfig
from genai.data import hub
from genai.data.columns import check_columns, choose_format
from genai.data.convert.documents import read_document
from genai.data.convert.inputs import HubOptions, Input, Inputs
from genai.data.convert.pieces import Piece
from genai.data.convert.settings import ConvertSettings
from genai.data.faults import data_fault
from genai.data.formats import to_row
from genai.data.readers import Record, SourceFile, read_file, read_line_range, read_row_groups
from genai.data.rows import BadRow, Message, Row
from genai.data.tables import OpenTable
from genai.registry import suggest

_NUM_FIRST = 20
"""Records that are looked at to know the columns."""
_USUAL_NAMES = ("content", "body", "document", "passage", "article", "markdown", "raw_content")
_TEXT = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One document of the input."""

    text: str
    """What it says; of a row, the JSON that tells equal rows. Decides which split it goes to."""
    source: str
    """`path:line`, `path[row]` or the path."""
    sample: Mapping[str, Any] | None = None
    """For `rows`: the values of the shards' columns."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads pieces; goes to the workers as it is."""

    inputs: tuple[Input, ...]
    """All inputs, by index."""
    settings: ConvertSettings
    """What is made of them."""
    hub_options: HubOptions
    """For data sets of the hub."""
    open_table: OpenTable
    """For tables."""

    def documents(self, piece: Piece) -> Iterator[Document | BadRow]:
        """What a piece holds, in order, with what cannot be used."""
        found = self.inputs[piece.input]
        if found.kind == "document":
            yield self._whole_file(found)
            return
        for record in self.records(piece):
            yield record if isinstance(record, BadRow) else self._from_record(record)

    def records(self, piece: Piece) -> Iterator[Record | BadRow]:
        """The records of a piece of an input that holds records."""
        found = self.inputs[piece.input]
        if found.kind == "table":
            return self._table_records(found, piece)
        if found.kind == "hub":
            split = self.hub_options.split + (f"[{piece.start}:{piece.end}]" if piece.end else "")
            return hub.read(found.name.removeprefix("hf:"), split=split, kwargs=self.hub_options.kwargs)
        file = _file(found)
        if found.kind == "lines":
            return read_line_range(file, start=piece.start, end=piece.end, lines_before=piece.rows_before)
        if found.kind == "parquet":
            return read_row_groups(file, start=piece.start, end=piece.end, rows_before=piece.rows_before)
        return read_file(file)

    def _table_records(self, found: Input, piece: Piece) -> Iterator[Record]:
        table = self.open_table(found.path or "", int(found.version or 0))
        for number, values in enumerate(table.rows(piece.start, piece.end), 1):
            yield Record(values=values, source=f"{found.name}[file {piece.start + 1}][{number}]")

    def _whole_file(self, found: Input) -> Document | BadRow:
        text = read_document(_file(found))
        if isinstance(text, BadRow):
            return text
        return self._document(Row(text=text, source=found.name))

    def _from_record(self, record: Record) -> Document | BadRow:
        if self.settings.target == "rows":
            kind = self.settings.format
            assert kind != "auto"
            row = to_row(record, kind, FinetuningDatasetConfig(columns=dict(self.settings.columns)))
            return row if isinstance(row, BadRow) else self._document(row)
        column = self.settings.columns[_TEXT]
        text = record.values.get(column)
        if isinstance(text, str):
            return Document(text=text, source=record.source)
        reason = f"'{column}' is no text" if text is not None else f"has no '{column}'"
        return BadRow(source=record.source, reason=reason)

    def _document(self, row: Row) -> Document:
        if self.settings.target == "tokens":
            return Document(text=row.text or "", source=row.source)
        if self.settings.format == _TEXT:
            return Document(text=row.text or "", source=row.source, sample={_TEXT: row.text})
        sample: dict[str, Any] = {"messages": [_plain(message) for message in row.messages]}
        if self.settings.with_tools:
            sample["tools"] = list(row.tools)
        return Document(text=row.key, source=row.source, sample=sample)


def fit_to_records(reader: Reader, inputs: Inputs, *, text_column: str | None) -> ConvertSettings:
    """The settings with what only a look at the records tells: their format, their columns.

    Args:
        reader: with settings that may say `auto`.
        inputs: what will be read.
        text_column: the column that holds the text, when the user named one.

    Raises:
        DataConfigError: the first records do not have what is wanted; the message says what they have.
    """
    settings = reader.settings
    records, has_documents = _first_records(reader, inputs)
    if settings.target == "tokens":
        column = _text_column(records, text_column) if records else text_column or _TEXT
        return replace(settings, columns={_TEXT: column})
    columns = dict(settings.columns) | ({_TEXT: text_column} if text_column else {})
    if not records:
        return replace(settings, format="text", columns={})
    wanted = "text" if text_column and settings.format == "auto" else settings.format
    kind = choose_format(records, wanted, columns)
    if kind != "text" and has_documents:
        first = next(found.name for found in inputs.inputs if found.kind == "document")
        message = f"a file that is one document cannot be made a row of the format {kind}"
        raise data_fault(message, key="dataset.format", where=first, fix="convert documents and rows apart")
    with_tools = kind != "text" and any(record.values.get("tools") for record in records)
    return replace(settings, format=kind, columns=columns, with_tools=with_tools)


def _first_records(reader: Reader, inputs: Inputs) -> tuple[list[Record], bool]:
    """Some records of the first input that has any, and whether there are files that are one document."""
    has_documents = any(found.kind == "document" for found in inputs.inputs)
    for part in inputs.parts:
        for piece in part.pieces:
            if inputs.inputs[piece.input].kind != "document":
                good = (record for record in reader.records(piece) if isinstance(record, Record))
                if first := list(islice(good, _NUM_FIRST)):
                    return first, has_documents
    return [], has_documents


def _text_column(records: Sequence[Record], wanted: str | None) -> str:
    """The column of the text: the one that was named, or `text`.

    Raises:
        DataConfigError: the records do not have it.
    """
    if wanted is not None:
        check_columns(records, {_TEXT: wanted})
        return wanted
    known = list(dict.fromkeys(key for record in records for key in record.values))
    if _TEXT in known:
        return _TEXT
    near = next((name for name in _USUAL_NAMES if name in known), None) or suggest(_TEXT, known)
    fix = f"say which: --text {near or 'COLUMN'}"
    message = f"there is no column 'text'; the columns are {', '.join(known)}"
    raise data_fault(message, key="dataset.columns", where=records[0].source, fix=fix)


def _plain(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, **message.extra}


def _file(found: Input) -> SourceFile:
    assert found.path is not None
    return SourceFile(path=Path(found.path), name=found.name)
