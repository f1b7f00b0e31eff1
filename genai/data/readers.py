"""Files as records: JSONL, JSON arrays, CSV, TSV and Parquet, each also gzipped where that is usual.

What is wrong with one row is a `BadRow` with its line; what is wrong with a whole file raises.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.data.faults import DataConfigError, data_fault
from genai.data.rows import BadRow
from genai.errors import MissingExtraError

MAX_LINE_BYTES = 64 << 20
"""A longer line is no row, but another kind of file."""
_KEY = "dataset.path"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_BOM = b"\xef\xbb\xbf"
_AS_UTF8 = "save the file as UTF-8: iconv -f latin1 -t utf-8 OLD > NEW"
_Bytes = io.BufferedReader | gzip.GzipFile


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row as its file has it."""

    values: dict[str, Any]
    """Column to value."""
    source: str
    """`path:line`."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to read."""

    path: Path
    """Where it lies on this machine."""
    name: str
    """What messages call it: the path or URL as the user knows it."""


def suffix_of(path: Path) -> str:
    """The ending that says what kind of file it is, in small letters, `.gz` left out: `.jsonl` for `rows.JSONL.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_file(file: SourceFile) -> Iterator[Record | BadRow]:
    """The records of one file.

    Raises:
        DataConfigError: the file is empty, damaged, or of a kind that is not known.
        MissingExtraError: Parquet without pyarrow.
    """
    reader = SUFFIXES.get(suffix_of(file.path))
    if reader is None:
        known = ", ".join(SUFFIXES)
        raise _fault(file.name, f"'{file.path.suffix}' is no kind of data file that is known", f"known: {known}")
    is_empty = True
    try:
        for record in reader(file):
            is_empty = False
            yield record
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise _fault(file.name, f"the gzip file is damaged: {error}") from error
    except PermissionError as error:
        raise _fault(file.name, "no permission to read it") from error
    if is_empty:
        raise _fault(file.name, "the file is empty" if file.path.stat().st_size == 0 else "the file holds no rows")


def read_line_range(file: SourceFile, *, start: int, end: int, lines_before: int) -> Iterator[Record | BadRow]:
    """The records of some lines of a JSONL file that is neither packed nor an array.

    Args:
        file: to read.
        start: byte at which the first line begins.
        end: byte after the last line.
        lines_before: how many lines lie before `start`, for messages.
    """
    with open(file.path, "rb") as stream:
        if start == 0 and stream.read(3) != _UTF8_BOM:
            stream.seek(0)
        elif start:
            stream.seek(start)
        yield from _read_lines(file.name, stream, end=end, lines_before=lines_before)


def row_group_sizes(file: SourceFile) -> list[tuple[int, int]]:
    """Rows and bytes of each row group of a Parquet file, from its footer.

    Raises:
        DataConfigError: the file is damaged.
        MissingExtraError: there is no pyarrow.
    """
    with _parquet(file) as table:
        groups = [table.metadata.row_group(index) for index in range(table.num_row_groups)]
        return [(group.num_rows, group.total_byte_size) for group in groups]


def read_row_groups(file: SourceFile, *, start: int, end: int, rows_before: int) -> Iterator[Record]:
    """The records of the row groups of a Parquet file from `start` up to, not including, `end`.

    Args:
        file: to read.
        start: first row group.
        end: the one after the last.
        rows_before: how many rows lie before `start`, for messages.
    """
    number = rows_before
    with _parquet(file) as table:
        for batch in table.iter_batches(batch_size=1024, row_groups=range(start, end)):
            for values in batch.to_pylist():
                number += 1
                yield Record(values=values, source=f"{file.name}[{number}]")


# --- JSON -------------------------------------------------------------------------------------------------------------


def _read_json(file: SourceFile) -> Iterator[Record | BadRow]:
    """One object a line, or one array of objects, whatever the file's ending says."""
    with _open(file) as stream:
        is_array = stream.peek(4096).lstrip()[:1] == b"["
        yield from _read_array(file.name, stream) if is_array else _read_lines(file.name, stream)


def _read_lines(
    name: str, stream: _Bytes, *, end: int | None = None, lines_before: int = 0
) -> Iterator[Record | BadRow]:
    number = lines_before
    while (end is None or stream.tell() < end) and (line := stream.readline(MAX_LINE_BYTES + 1)):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise _fault(f"{name}:{number}", f"the line is longer than {MAX_LINE_BYTES >> 20} MiB", "is this JSONL?")
        if line.strip():
            yield _parse_line(line, f"{name}:{number}")


def _parse_line(line: bytes, source: str) -> Record | BadRow:
    try:
        value = json.loads(line.rstrip().decode())
    except UnicodeDecodeError as error:
        return BadRow(source=source, reason=f"byte {line[error.start]:#04x} is no UTF-8 ({_AS_UTF8})")
    except json.JSONDecodeError as error:
        hint = " (a row must stand on one line)" if line.strip() == b"{" else ""
        return BadRow(source=source, reason=f"is no JSON: {_json_reason(error)}, column {error.colno}{hint}")
    except (ValueError, RecursionError) as error:
        return BadRow(source=source, reason=f"is no usable JSON: {error}")
    return _as_record(value, source)


def _read_array(name: str, stream: _Bytes) -> Iterator[Record | BadRow]:
    try:
        text = stream.read().decode()
    except UnicodeDecodeError as error:
        raise _fault(name, f"byte {error.object[error.start]:#04x} is no UTF-8", _AS_UTF8) from error
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise _fault(f"{name}:{error.lineno}:{error.colno}", f"is no JSON: {_json_reason(error)}") from error
    for number, value in enumerate(values, 1):
        yield _as_record(value, f"{name}[{number}]")


def _json_reason(error: json.JSONDecodeError) -> str:
    return error.msg[:1].lower() + error.msg[1:]


def _as_record(value: object, source: str) -> Record | BadRow:
    if isinstance(value, dict):
        return Record(values=value, source=source)
    kind = {list: "an array", str: "a text", type(None): "null"}.get(type(value), "a number")
    return BadRow(source=source, reason=f'is {kind}, not an object such as {{"prompt": ..., "response": ...}}')


# --- tables -----------------------------------------------------------------------------------------------------------


def _read_csv(file: SourceFile) -> Iterator[Record | BadRow]:
    """Comma, semicolon (spreadsheets of most of Europe) or tab between the cells; the first row names the columns."""
    # A cell may hold a whole document; the limit is the module's, there is no way to give it to one reader.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    with _open(file) as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
        delimiter = "\t" if suffix_of(file.path) == ".tsv" else _delimiter(stream.peek(4096))
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(header, file.name)
            for cells in reader:
                if cells:
                    yield _table_row(header, cells, f"{file.name}:{reader.line_num}")
        except UnicodeDecodeError as error:
            where = f"{file.name}:{reader.line_num + 1}"
            raise _fault(where, f"byte {error.object[error.start]:#04x} is no UTF-8", _AS_UTF8) from error
        except csv.Error as error:
            raise _fault(f"{file.name}:{reader.line_num}", f"is no CSV: {error}") from error


def _delimiter(start: bytes) -> str:
    first_line = start.split(b"\n", 1)[0]
    return ";" if first_line.count(b";") > first_line.count(b",") else ","


def _check_header(header: list[str], name: str) -> None:
    if any(not cell for cell in header):
        raise _fault(f"{name}:1", "a column has no name", "the first row must name the columns")
    twice = sorted({cell for cell in header if header.count(cell) > 1})
    if twice:
        raise _fault(f"{name}:1", f"two columns are called '{twice[0]}'", "the first row must name the columns")


def _table_row(header: list[str], cells: list[str], source: str) -> Record | BadRow:
    if len(cells) != len(header):
        return BadRow(source=source, reason=f"has {len(cells)} cells, the header has {len(header)}")
    return Record(values=dict(zip(header, cells, strict=True)), source=source)


def _read_parquet(file: SourceFile) -> Iterator[Record | BadRow]:
    with _parquet(file) as table:
        num_row_groups = table.num_row_groups
    yield from read_row_groups(file, start=0, end=num_row_groups, rows_before=0)


@contextlib.contextmanager
def _parquet(file: SourceFile) -> Iterator[Any]:
    """An open Parquet file; what is wrong with it becomes one line."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", extra="train", needed_for="reading Parquet") from error
    try:
        with pq.ParquetFile(file.path) as table:
            yield table
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise _fault(file.name, f"the Parquet file cannot be read: {reason}") from error


SUFFIXES: dict[str, Callable[[SourceFile], Iterator[Record | BadRow]]] = {
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
"""Ending of a file to its reader."""


# --- files ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _open(file: SourceFile) -> Iterator[_Bytes]:
    """The file's bytes, unpacked, after a UTF-8 byte-order mark."""
    with gzip.open(file.path) if file.path.suffix.lower() == ".gz" else open(file.path, "rb") as stream:
        start = stream.peek(3)[:3]
        if start[:2] in _UTF16:
            raise _fault(file.name, "the file is UTF-16", "save it as UTF-8")
        if start == _UTF8_BOM:
            stream.read(3)
        yield stream


def _fault(where: str, message: str, fix: str | None = None) -> DataConfigError:
    return data_fault(message, key=_KEY, where=where, fix=fix)
