"""Documents to find: rows of a table or files of a folder, cut into passages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from genai.config.embed_finetune import CorpusConfig
from genai.config.index import DocumentLimitsConfig
from genai.config.sizes import parse_size
from genai.data.chunking import cut
from genai.data.chunking.tokens import Offsets
from genai.data.documents import DOCUMENT_SUFFIXES, IsolatedParser, ParseLimits, Section
from genai.data.faults import data_fault
from genai.data.messages import Unusable
from genai.data.readers import SUFFIXES, Record, SourceFile, suffix_of
from genai.data.retrieval.faults import check_column, told_at
from genai.data.retrieval.passages import PassageSet, text_key
from genai.data.retrieval.records import Passage
from genai.data.rows import BadRow
from genai.data.sources import find_files, read_records
from genai.data.tables import OpenTable
from genai.errors import DataError
from genai.log import progress
from genai.storage import is_remote

NUM_FIRST = 20
"""Records that are looked at to know the columns."""
_PATH = "data.corpus.path"
_LIMITS = DocumentLimitsConfig()


@dataclass(frozen=True, kw_only=True)
class _Document:
    """One document, not yet cut."""

    key: str
    text: str
    source: str
    title: str | None = None
    sections: tuple[Section, ...] = ()


def read_corpus(
    config: CorpusConfig, passages: PassageSet, *, open_table: OpenTable | None, token_offsets: Offsets | None
) -> tuple[int, list[BadRow]]:
    """Read all documents and put their passages into `passages`.

    Args:
        config: `data.corpus`.
        passages: is filled; a document whose text stands there already becomes another name of it.
        open_table: opens what `delta:` names.
        token_offsets: of the model's tokenizer; only chunking needs it.

    Returns:
        how many rows or files there were, and those that cannot be used.

    Raises:
        DataConfigError: a reference leads nowhere, or a column does not exist.
        ValueError: texts are to be cut, and there is no tokenizer.
    """
    if config.chunking.name != "none" and token_offsets is None:
        raise ValueError("chunking counts tokens: token_offsets is missing")
    num_rows = 0
    bad: list[BadRow] = []
    seen: dict[str, tuple[str, str]] = {}
    with told_at(_PATH), progress("reading the corpus") as task:
        for num_rows, document in enumerate(_documents(config, open_table), 1):
            task.update(num_rows)
            if isinstance(document, BadRow):
                bad.append(document)
                continue
            content = text_key(document.text)
            first, same = seen.setdefault(document.key, (document.source, content))
            if same != content:
                reason = f"the key '{document.key}' stands at {first} already, with another text"
                bad.append(BadRow(source=document.source, reason=reason))
            elif first == document.source:
                for passage in _cut(document, config, token_offsets):
                    passages.add(passage)
    return num_rows, bad


def _cut(document: _Document, config: CorpusConfig, token_offsets: Offsets | None) -> Iterator[Passage]:
    chunking = config.chunking
    pieces = cut(
        document.text,
        token_offsets or _no_offsets,
        name=chunking.name,
        max_tokens=chunking.max_tokens,
        overlap_tokens=chunking.overlap_tokens,
        section_starts=[section.start for section in document.sections],
    )
    for number, piece in enumerate(pieces):
        yield Passage(
            key=document.key if chunking.name == "none" else f"{document.key}#{number}",
            text=document.text[piece.start : piece.end],
            document=document.key,
            title=document.title or _heading(piece.start, document.sections),
            source=document.source,
        )


def _heading(position: int, sections: Sequence[Section]) -> str | None:
    """The heading that the character at `position` stands below."""
    return next((section.title for section in reversed(sections) if section.start <= position), None)


def _no_offsets(text: str) -> list[tuple[int, int]]:
    raise AssertionError("a text that is not cut has no need of tokens")


def _documents(config: CorpusConfig, open_table: OpenTable | None) -> Iterator[_Document | BadRow]:
    tables: list[str] = []
    for reference in [config.path] if isinstance(config.path, str) else config.path:
        files = _document_files(reference)
        if files:
            yield from _parsed(files, reference)
        else:
            tables.append(reference)
    if tables:
        yield from _rows(read_records(tables, open_table=open_table), config)


# --- rows of tables ---------------------------------------------------------------------------------------------------


def _rows(records: Iterator[Record | BadRow], config: CorpusConfig) -> Iterator[_Document | BadRow]:
    first: list[Record | BadRow] = []
    good: list[Record] = []
    for record in records:
        first.append(record)
        if isinstance(record, Record):
            good.append(record)
        if len(good) == NUM_FIRST:
            break
    texts = [config.text] if isinstance(config.text, str) else config.text
    key = config.primary_key
    if good:
        named = [("text", name) for name in texts] + [("primary_key", key), ("title", config.title)]
        for field, name in named:
            if name is not None:
                check_column(name, good, key=f"data.corpus.{field}")
        if key is None and any("id" in record.values for record in good):
            key = "id"
    for record in chain(first, records):
        yield record if isinstance(record, BadRow) else _row(record, texts, key, config.title)


def _row(record: Record, texts: Sequence[str], key: str | None, title: str | None) -> _Document | BadRow:
    try:
        text = "\n\n".join(part for name in texts if (part := _text(record.values, name)))
        if not text:
            raise Unusable(f"there is no text in {' or '.join(repr(name) for name in texts)}")
        return _Document(
            key=text_key(text) if key is None else name_in(record.values, key),
            text=text,
            source=record.source,
            title=None if title is None else _text(record.values, title) or None,
        )
    except Unusable as error:
        return BadRow(source=record.source, reason=str(error))


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str | None):
        raise Unusable(f"'{name}' is no text")
    return (value or "").strip()


def name_in(values: Mapping[str, Any], column: str) -> str:
    """What a row is called.

    Raises:
        Unusable: the column holds neither a text nor a number, or nothing.
    """
    value = values.get(column)
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise Unusable(f"'{column}' names nothing")
    return str(value).strip()


# --- files that are one document each ---------------------------------------------------------------------------------


def _document_files(reference: str) -> list[SourceFile]:
    """The documents behind a reference; none where it is to be read as a table.

    Raises:
        DataConfigError: a folder holds documents as well as tables.
    """
    if reference.startswith(("hf:", "gallery:", "delta:")):
        return []
    files = find_files([reference], suffixes=(*SUFFIXES, *DOCUMENT_SUFFIXES))[reference]
    documents = [file for file in files if suffix_of(file.path) in DOCUMENT_SUFFIXES]
    if documents and len(documents) < len(files):
        other = next(file for file in files if file not in documents)
        raise data_fault(
            f"it holds documents ({documents[0].name}) as well as data files ({other.name})",
            key=_PATH,
            where=reference,
            fix="name one kind by a pattern, e.g. *.md",
        )
    return documents


def _parsed(files: Sequence[SourceFile], reference: str) -> Iterator[_Document | BadRow]:
    limits = ParseLimits(time_s=_LIMITS.time_s, memory_bytes=parse_size(_LIMITS.memory))
    parser = IsolatedParser(limits)
    folder = (
        reference.rstrip("/") if is_remote(reference) else str(Path(reference.removeprefix("file://")).expanduser())
    )
    try:
        for file in files:
            yield _parse(file, file.name.removeprefix(f"{folder}/"), parser)
    finally:
        parser.close()


def _parse(file: SourceFile, key: str, parser: IsolatedParser) -> _Document | BadRow:
    most_bytes = parse_size(_LIMITS.file_size)
    try:
        if file.path.stat().st_size > most_bytes:
            return BadRow(source=file.name, reason=f"the file has more than {most_bytes:,} bytes")
        parsed = parser.parse(file.path.read_bytes(), suffix_of(file.path), name=file.name)
    except (DataError, OSError) as error:
        return BadRow(source=file.name, reason=error.message if isinstance(error, DataError) else str(error))
    return _Document(key=key, text=parsed.text, source=file.name, sections=parsed.sections)
