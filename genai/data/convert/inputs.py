"""What is converted: every file or table behind the references, with what identifies its content, divided into parts.

A part is about `part_bytes` of input: a range of lines of a large JSONL file, some row groups of a Parquet file, some
files of a table, or many small files. How inputs are divided depends on nothing but the inputs and that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from genai.data import hub
from genai.data.convert.documents import DOCUMENT_SUFFIXES
from genai.data.convert.pieces import Part, Piece, group, has_plain_lines, row_group_pieces, scan
from genai.data.faults import data_fault
from genai.data.readers import SUFFIXES, SourceFile, suffix_of
from genai.data.sources import find_files
from genai.data.tables import SCHEME, OpenTable, Table, name_of, split_table_reference
from genai.errors import UsageError

Kind = Literal["lines", "parquet", "records", "document", "hub", "table"]
KNOWN_SUFFIXES = frozenset({*SUFFIXES, *DOCUMENT_SUFFIXES})
_HASHING_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """How Hugging Face data sets are read."""

    split: str = "train"
    """Which of their splits."""
    config: str | None = None
    """Which of their configurations."""

    @property
    def kwargs(self) -> dict[str, Any]:
        """Arguments of `datasets.load_dataset`."""
        return {"name": self.config} if self.config else {}


@dataclass(frozen=True, kw_only=True)
class Input:
    """One file, table or data set of the hub."""

    name: str
    """What messages and the lineage call it."""
    kind: Kind
    """How it is read."""
    path: str | None = None
    """Where a file lies on this machine."""
    size_bytes: int = 0
    """How large it is, as far as is known."""
    sha256: str | None = None
    """Of a file."""
    version: str | None = None
    """Of a table or a data set of the hub."""
    schema: Mapping[str, str] = field(default_factory=dict)
    """Of a table."""

    def identity(self) -> dict[str, Any]:
        """What the lineage keeps: all but the place in the cache."""
        kept = {key: value for key, value in asdict(self).items() if key != "path" and value not in (None, {})}
        return kept | ({"schema": dict(self.schema)} if self.schema else {})


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All inputs and their parts."""

    inputs: tuple[Input, ...]
    """In the order of the references; files of a folder or a pattern by name."""
    parts: tuple[Part, ...]
    """In the order in which their documents follow each other in the output."""

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(part.size_bytes for part in self.parts)


def find_inputs(
    references: Sequence[str], *, part_bytes: int, hub_options: HubOptions, open_table: OpenTable
) -> Inputs:
    """Resolve references, read every file once for its hash, and divide what was found into parts.

    Args:
        references: files, folders, patterns, `s3://...`, `hf:DATASET`, `delta:URI[@VERSION]`.
        part_bytes: about how much input makes a part.
        hub_options: for `hf:`.
        open_table: for `delta:`.

    Raises:
        DataConfigError: a reference leads nowhere, or to files of a kind that is not known; all of them are named.
        UsageError: there is nothing to convert.
    """
    plain = [ref for ref in references if not ref.startswith(("hf:", SCHEME))]
    files = find_files(plain, suffixes=KNOWN_SUFFIXES)
    _check_kinds([file for found in files.values() for file in found])
    inputs: list[Input] = []
    pieces: list[Piece] = []
    with ThreadPoolExecutor(_HASHING_THREADS) as threads:
        for reference in references:
            for found, its_pieces in _open(reference, files, part_bytes, hub_options, open_table, threads):
                pieces.extend(_at(piece, len(inputs)) for piece in its_pieces)
                inputs.append(found)
    if not pieces:
        raise UsageError("there is nothing to convert: all files are empty", where=", ".join(references))
    return Inputs(inputs=tuple(inputs), parts=tuple(group(pieces, part_bytes)))


_Found = tuple[Input, list[Piece]]


def _open(
    reference: str,
    files: Mapping[str, Sequence[SourceFile]],
    part_bytes: int,
    hub_options: HubOptions,
    open_table: OpenTable,
    threads: ThreadPoolExecutor,
) -> Iterator[_Found]:
    if reference.startswith("hf:"):
        yield _hub_input(reference, hub_options, part_bytes)
    elif reference.startswith(SCHEME):
        yield _table_input(open_table(*split_table_reference(reference)))
    else:
        yield from threads.map(lambda file: _file_input(file, part_bytes), files[reference])


def _check_kinds(files: Sequence[SourceFile]) -> None:
    for file in files:
        if suffix_of(file.path) not in KNOWN_SUFFIXES:
            known = ", ".join(sorted(KNOWN_SUFFIXES))
            message = f"'{file.path.suffix or file.path.name}' is no kind of file that can be converted"
            raise data_fault(message, key="dataset.path", where=file.name, fix=f"known: {known}")


def _file_input(file: SourceFile, part_bytes: int) -> _Found:
    suffix = suffix_of(file.path)
    kind: Kind = "document" if suffix in DOCUMENT_SUFFIXES else "parquet" if suffix == ".parquet" else "records"
    if suffix in (".jsonl", ".ndjson") and has_plain_lines(file.path):
        kind = "lines"
    try:
        sha256, pieces = scan(file.path, part_bytes if kind == "lines" else None)
    except PermissionError as error:
        raise data_fault("no permission to read it", key="dataset.path", where=file.name) from error
    if kind == "parquet" and pieces:
        pieces = row_group_pieces(file, part_bytes)
    size_bytes = file.path.stat().st_size
    return Input(name=file.name, kind=kind, path=str(file.path), size_bytes=size_bytes, sha256=sha256), pieces


def _hub_input(reference: str, options: HubOptions, part_bytes: int) -> _Found:
    found = hub.describe(reference.removeprefix("hf:"), split=options.split, kwargs=options.kwargs)
    size_bytes = max(found.size_bytes, found.num_rows)
    whole = Input(name=reference, kind="hub", size_bytes=size_bytes, version=found.fingerprint)
    rows_a_part = max(1, part_bytes * found.num_rows // max(1, size_bytes))
    if "[" in options.split:
        return whole, [Piece(input=0, size_bytes=size_bytes)] if found.num_rows else []
    bounds = range(0, found.num_rows, rows_a_part)
    ends = [min(start + rows_a_part, found.num_rows) for start in bounds]
    return whole, [
        Piece(
            input=0,
            start=start,
            end=end,
            rows_before=start,
            size_bytes=size_bytes * (end - start) // found.num_rows,
        )
        for start, end in zip(bounds, ends, strict=True)
    ]


def _table_input(table: Table) -> _Found:
    name = name_of(table)
    sizes = list(table.file_bytes)
    found = Input(
        name=name, kind="table", path=table.uri, size_bytes=sum(sizes), version=str(table.version), schema=table.schema
    )
    return found, [Piece(input=0, start=i, end=i + 1, size_bytes=size) for i, size in enumerate(sizes)]


def _at(piece: Piece, index: int) -> Piece:
    return Piece(**{**asdict(piece), "input": index})
