"""`genai index upsert, delete`: puts rows into a direct index and takes them out.

What a row must be is said here for `genai serve` as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from genai.config.index import IndexConfig
from genai.errors import ConfigError, DataError, Problem, UsageError
from genai.index.stopping import stop_on_signals
from genai.jobs.index_parts import encoder_opener, open_index_engine, open_ledger, read_config
from genai.jobs.index_result import IndexResult, result_of

if TYPE_CHECKING:
    from genai.index.interfaces import Document

_KEY, _TEXT = "id", "text"
"""Columns of the rows of a direct index whose job file names none."""
_MAX_SHOWN = 20
_STDIN = "-"


def upsert(name: str, files: Sequence[Path], *, indexes_dir: Path, allow_code: bool = False) -> IndexResult:
    """Put rows into a direct index, in place of those with the same keys.

    Args:
        name: of the index.
        files: of JSON lines; `-` is stdin.
        indexes_dir: where indexes lie.
        allow_code: whether the encoder may bring its own Python.

    Raises:
        UsageError: there is no such index, or it follows a source.
        ConfigError: rows cannot be used; nothing was written.
        GenaiError: see `genai.index.sync.upsert`.
    """
    from genai.index import sync

    with open_ledger(name, indexes_dir, read_only=False) as ledger, stop_on_signals() as stop:
        config = read_config(ledger)
        check_direct(config)
        documents = documents_of(_rows(files), config)
        encoder_of = encoder_opener(config, allow_code=allow_code)
        engine = open_index_engine(config, ledger)
        encoder = encoder_of(config.embedding)
        report = sync.upsert(ledger, documents, encoder, engine, config, encoder_of=encoder_of, stop=stop)
        return result_of(ledger, "upsert" if report.changed else "nothing", report)


def delete(
    name: str, keys: Sequence[str], file: Path | None = None, *, indexes_dir: Path, allow_code: bool = False
) -> IndexResult:
    """Remove documents from a direct index; keys that are not there are passed over.

    Args:
        name: of the index.
        keys: of the documents.
        file: further keys, one a line; `-` is stdin.
        indexes_dir: where indexes lie.
        allow_code: whether the encoder may bring its own Python.

    Raises:
        UsageError: there is no such index, it follows a source, or no key is named.
        GenaiError: see `genai.index.sync.delete`.
    """
    from genai.index import sync

    with open_ledger(name, indexes_dir, read_only=False) as ledger:
        config = read_config(ledger)
        check_direct(config)
        wanted = [*keys, *(line.strip() for _, line in (_lines(file) if file is not None else ()))]
        if not wanted:
            raise UsageError("no key is named", fix=f"genai index delete {name} KEY..., or --from FILE")
        encoder_of = encoder_opener(config, allow_code=allow_code)
        engine = open_index_engine(config, ledger)
        report = sync.delete(ledger, wanted, encoder_of(config.embedding), engine, config, encoder_of=encoder_of)
        return result_of(ledger, "delete" if report.changed else "nothing", report)


def check_direct(config: IndexConfig) -> None:
    """Whether rows may go by hand into an index.

    Raises:
        UsageError: it follows a source.
    """
    source = config.source.table or config.source.documents
    if source is not None:
        fix = "change that, and sync again; rows go by hand only into an index with source.direct: true"
        raise UsageError(f"index '{config.name}' follows {source}", fix=fix)


def documents_of(rows: Iterable[tuple[str, str, str | Mapping[str, Any]]], config: IndexConfig) -> list[Document]:
    """All rows as documents, each of them checked.

    Args:
        rows: of each where it stands, what its document names as its source, and its columns (or JSON text of them).
        config: of the index.

    Raises:
        ConfigError: rows cannot be used; the first of them are named.
    """
    from genai.index.sources.rows import shape_of

    source = replace(config.source, primary_key=config.source.primary_key or _KEY, text=config.source.text or _TEXT)
    assert isinstance(source.metadata, dict) or not source.metadata
    shape = shape_of(source, source.metadata if isinstance(source.metadata, dict) else {})
    documents, problems = [], []
    for where, uri, row in rows:
        try:
            document = shape.document(_row(row) if isinstance(row, str) else row, uri)
            if not document.key:
                raise DataError(f"the row has no '{shape.key}'", fix=f"its columns are {', '.join(shape.columns)}")
            documents.append(document)
        except DataError as error:
            problems.append(Problem(message=error.message, where=where, fix=error.fix))
    if problems:
        raise ConfigError(problems[:_MAX_SHOWN])
    return documents


def _rows(files: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
    for file in files:
        for where, line in _lines(file):
            yield where, where.partition(":")[0], line


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"this is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError("a row is an object", fix='e.g. {"id": "17", "text": "..."}')
    return row


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """`file:line` and the text of every line that is not empty."""
    if str(file) == _STDIN:
        yield from _numbered("stdin", sys.stdin)
        return
    try:
        with file.open(encoding="utf-8") as stream:
            yield from _numbered(str(file), stream)
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", where=str(file)) from error


def _numbered(name: str, stream: TextIO) -> Iterator[tuple[str, str]]:
    try:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield f"{name}:{number}", line
    except UnicodeDecodeError as error:
        raise UsageError("the file is no UTF-8 text", where=name) from error
